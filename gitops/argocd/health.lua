-- The health of an IndexBuild for Argo CD. Lua 5.1, as Argo CD runs it.
local health = { status = "Progressing", message = "waiting for the operator to look at it" }

local function message_of(condition, otherwise)
  if condition ~= nil and condition.message ~= nil and condition.message ~= "" then
    return condition.message
  end
  return otherwise
end

if obj.metadata ~= nil and obj.metadata.deletionTimestamp ~= nil then
  health.message = "being deleted: what it wrote is removed"
end

if obj.status == nil or obj.status.conditions == nil then
  return health
end

local found = {}
for _, condition in ipairs(obj.status.conditions) do
  found[condition.type] = condition
end

local function holds(name)
  return found[name] ~= nil and found[name].status == "True"
end

if obj.metadata ~= nil and obj.metadata.deletionTimestamp ~= nil then
  health.message = message_of(found["Ready"], health.message)
  return health
end

-- A change of the spec that the operator has not seen: what is said is about the one before.
if obj.metadata ~= nil and obj.metadata.generation ~= nil and obj.status.observedGeneration ~= nil
    and obj.status.observedGeneration < obj.metadata.generation then
  health.message = "waiting for the operator to see the change"
  return health
end

if holds("Complete") then
  health.status = "Healthy"
  health.message = message_of(found["Ready"], "the index is published")
  return health
end

if holds("Failed") then
  health.status = "Degraded"
  health.message = message_of(found["Failed"], "there will be no index")
  return health
end

if obj.status.phase == "Suspended" or (found["Reconciling"] ~= nil and found["Reconciling"].reason == "ReconcileDisabled") then
  health.status = "Suspended"
  health.message = message_of(found["Ready"], "paused")
  return health
end

-- A pod that is waited for is what an autoscaler's node ends; everything else that stalls a build needs somebody.
if holds("Stalled") and found["Stalled"].reason ~= "WaitingForPod" then
  health.status = "Degraded"
  health.message = message_of(found["Stalled"], "it cannot go on without help")
  return health
end

health.message = message_of(found["Ready"], "at work")
return health
