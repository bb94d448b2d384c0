//! The completion of command lines by kubectl: it runs `kubectl_complete-indexbuild` with what was typed, and reads a
//! candidate a line, and a last line `:4` (no file names).

use std::ffi::OsString;
use std::process::ExitCode;

use clap::CommandFactory as _;
use indexbuild_api::{Guarded, IndexBuild};
use indexbuild_operator::shallow::shallow_client;
use kube::api::ListParams;
use kube::{Api, Config, ResourceExt as _};

use super::Plugin;

/// How long the cluster has for the names of its builds.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);

/// Prints candidates for the last of the words.
pub(super) fn run(words: &[OsString]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let mut candidates = candidates_for(&words);
    if let Candidates::Builds(namespace) = &candidates {
        candidates = Candidates::Words(builds(namespace.as_deref()));
    }
    let Candidates::Words(mut list) = candidates else {
        return ExitCode::SUCCESS;
    };
    let begun = words.last().copied().unwrap_or_default();
    list.retain(|(word, _)| word.starts_with(begun));
    let lines: String = list.iter().map(|(word, about)| format!("{word}\t{about}\n")).collect();
    // A broken pipe is the shell's own.
    let _ = crate::output::text(&format!("{lines}:4\n"));
    ExitCode::SUCCESS
}

#[derive(Debug, PartialEq, Eq)]
enum Candidates {
    Words(Vec<(String, String)>),
    /// Names of builds, of this namespace if one was typed.
    Builds(Option<String>),
}

fn candidates_for(words: &[&str]) -> Candidates {
    let command = Plugin::command();
    let Some((last, typed)) = words.split_last() else {
        return Candidates::Words(Vec::new());
    };
    let about = |about: Option<&clap::builder::StyledStr>| about.map(ToString::to_string).unwrap_or_default();
    let Some(sub) = typed.iter().find_map(|word| command.find_subcommand(word)) else {
        let all = command.get_subcommands().map(|sub| (sub.get_name().to_owned(), about(sub.get_about())));
        return Candidates::Words(all.collect());
    };
    if last.starts_with('-') {
        let flags = sub.get_arguments().filter_map(|argument| {
            let help = about(argument.get_help());
            Some((format!("--{}", argument.get_long()?), help))
        });
        return Candidates::Words(flags.collect());
    }
    let after = typed.last().copied().unwrap_or_default();
    let taken = sub.get_arguments().find(|argument| {
        let long = argument.get_long().is_some_and(|long| after == format!("--{long}"));
        let short = argument.get_short().is_some_and(|short| after == format!("-{short}"));
        (long || short) && argument.get_action().takes_values()
    });
    if let Some(argument) = taken {
        let values = argument.get_possible_values().into_iter();
        return Candidates::Words(values.map(|value| (value.get_name().to_owned(), about(value.get_help()))).collect());
    }
    let namespace =
        typed.windows(2).find(|pair| matches!(pair, ["-n" | "--namespace", _])).map(|pair| pair[1].to_owned());
    Candidates::Builds(namespace)
}

fn builds(namespace: Option<&str>) -> Vec<(String, String)> {
    let listed = tokio::runtime::Builder::new_current_thread().enable_all().build().ok().and_then(|runtime| {
        runtime.block_on(async {
            let listing = async {
                let config = Config::infer().await.ok()?;
                let namespace = namespace.map_or_else(|| config.default_namespace.clone(), str::to_owned);
                let api: Api<Guarded<IndexBuild>> = Api::namespaced(shallow_client(config).ok()?, &namespace);
                api.list(&ListParams::default()).await.ok()
            };
            tokio::time::timeout(TIMEOUT, listing).await.ok().flatten()
        })
    });
    let phase = |build: &Guarded<IndexBuild>| match build.read() {
        Ok(build) => build.status.as_ref().and_then(|status| status.phase).map(|phase| phase.to_string()),
        Err(_) => Some("cannot be read".to_owned()),
    };
    listed.into_iter().flatten().map(|build| (build.name_any(), phase(&build).unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<String> {
        match candidates_for(words) {
            Candidates::Words(list) => list.into_iter().map(|(word, _)| word).collect(),
            Candidates::Builds(namespace) => vec![format!("builds of {namespace:?}")],
        }
    }

    #[test]
    fn commands_flags_their_values_and_builds_are_completed() {
        assert!(names(&["s"]).contains(&"suspend".to_owned()));
        assert!(names(&["logs", "--"]).contains(&"--follow".to_owned()));
        assert_eq!(names(&["status", "-o", ""]), ["table", "wide", "json", "yaml"]);
        assert_eq!(names(&["status", ""]), ["builds of None"]);
        assert_eq!(names(&["status", "-n", "shop", ""]), ["builds of Some(\"shop\")"]);
    }
}
