//! What owners and volumes are, in the words of those who run them: pods and claims that kubelets and a CSI driver look
//! after, or processes and folders of one machine. Advice that names a kubelet helps nobody who has none.

/// Where owners run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Platform {
    #[default]
    Kubernetes,
    /// `indexbuild run`: owners are child processes, volumes are folders.
    OneMachine,
}

impl Platform {
    const fn either(self, kubernetes: &'static str, one_machine: &'static str) -> &'static str {
        match self {
            Self::Kubernetes => kubernetes,
            Self::OneMachine => one_machine,
        }
    }

    /// What a slot's owner is.
    pub(crate) const fn pod(self) -> &'static str {
        self.either("pod", "process")
    }

    /// The same for several.
    pub(crate) const fn pods(self) -> &'static str {
        self.either("pods", "processes")
    }

    pub(crate) const fn volume(self) -> &'static str {
        self.either("volume", "folder")
    }

    /// The same for several.
    pub(crate) const fn volumes(self) -> &'static str {
        self.either("volumes", "folders")
    }

    /// How an owner's end is known.
    pub(crate) const fn terminated(self) -> &'static str {
        self.either("the kubelet reports it terminated", "it has ended")
    }

    /// Where a slot's next owner begins that cannot have the present volume.
    pub(crate) const fn on_a_new_volume(self) -> &'static str {
        self.either("on a new volume", "in a new folder")
    }

    pub(crate) const fn on_the_same_volume(self) -> &'static str {
        self.either("on the same volume", "in the same folder")
    }

    /// Who tells more about an owner that does not come up.
    pub(crate) const fn tells_why(self) -> &'static str {
        self.either("`kubectl describe pod` tells why", "its log tells why")
    }

    /// What keeps a process from registering.
    pub(crate) const fn no_way(self) -> &'static str {
        self.either(
            "it finds no way to the Kubernetes API (a NetworkPolicy, a proxy, a certificate authority that it does not know; its log says which address it tried)",
            "it does not reach the run that started it (its log tells why)",
        )
    }

    /// Who stops a process behind the back of whoever made it.
    pub(crate) const fn stopped(self) -> &'static str {
        self.either(
            ", and not through the API server: a kubelet does so to a pod that has written more than its limit of \
             ephemeral storage (`kubectl get events` says `Evicted`), or somebody on its node did",
            ": somebody on this machine did so",
        )
    }

    /// When an owner that is wanted is made.
    pub(crate) const fn is_made_when(self) -> &'static str {
        self.either(
            "the API server takes it and the claim of its volume; that is tried again until then",
            "it can be started; that is tried again until then",
        )
    }

    /// When a suspended build goes on.
    pub(crate) const fn goes_on_when(self) -> &'static str {
        self.either(
            "its executors have ended and its volumes stay; it goes on when spec.suspend is false",
            "its processes have ended and their folders stay; it goes on when the same command is run again",
        )
    }
}
