//! Objects of stages, and what strangers make of them.

use super::*;

impl Sim {
    /// What stands under the names of stages. A stranger's looks just as ours.
    pub(super) fn stage_objects(&self) -> Vec<StageObject> {
        let hidden = |name: &String| self.strangers.contains_key(name) || self.removed.contains(name);
        let object = |(name, stage): (&String, &Stage)| StageObject {
            name: names::config_map("orders", UID, name),
            text: Some(stage.text().unwrap()),
            well_formed: true,
        };
        self.stages.iter().filter(|(name, _)| !hidden(name)).chain(&self.strangers).map(object).collect()
    }

    /// G2, G6: what is believed was chosen in a record, and stays what it was.
    pub(super) fn check_belief(&self, world: &World) {
        for stage in &world.stages {
            let chosen = stage.chosen.iter().all(|entry| self.ever_chosen.contains(entry));
            assert!(chosen, "nobody chose {stage:?}\n{}", self.log.join("\n"));
            let mut believed = self.believed.borrow_mut();
            let first = believed.entry(stage.name.clone()).or_insert_with(|| stage.clone());
            assert_eq!(first, stage, "{} is another one now\n{}", stage.name, self.log.join("\n"));
        }
    }

    /// Somebody else's object stands under the name of a stage, from before or in place of what was frozen.
    pub(crate) fn forge(&mut self, name: &str) {
        let work = match name {
            "encode" | "sort" => format!("{name}-0"),
            "clean-index" => "clean".to_owned(),
            "encode-r1" => "encode-r1-0".to_owned(),
            name => name.to_owned(),
        };
        let chosen = Chosen {
            work_id: work,
            epoch: Epoch::new(1),
            boot_nonce: "forged".to_owned(),
            digest: "forged".to_owned(),
            encode_works: (name == "plan").then_some(1),
            sort_works: (name == "plan").then_some(1),
            ..Chosen::default()
        };
        self.note(format!("somebody else freezes {name}"));
        self.strangers.insert(name.to_owned(), Stage { name: name.to_owned(), chosen: vec![chosen] });
    }

    /// Somebody removes the object of a stage by hand.
    pub(crate) fn remove_stage(&mut self, name: &str) {
        self.note(format!("somebody removes {name}"));
        self.removed.insert(name.to_owned());
    }

    /// What somebody put there or took away is set right.
    pub(crate) fn set_stage_right(&mut self, name: &str) {
        self.strangers.remove(name);
        self.removed.remove(name);
    }
}
