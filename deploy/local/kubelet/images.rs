//! What an image would bring: the program of a container that names none, and programs that probes and hooks call.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Container;

/// A program that stands for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program and its first arguments. Where containers have no private root, paths that volumes cover are replaced,
    /// but not those that [`Images::place`] names.
    pub command: Vec<String>,
    /// Whether the container's own `args` follow.
    pub with_args: bool,
    /// Whether it also stands in place of a container's own `command`.
    pub over_command: bool,
}

#[derive(Debug, Clone)]
struct Rule {
    /// A container's name, when it matters.
    container: Option<String>,
    /// A part of the image's name, when it matters.
    image: Option<String>,
    program: Program,
}

/// The table of programs; the first rule that fits decides.
#[derive(Debug, Clone, Default)]
pub struct Images {
    rules: Vec<Rule>,
    /// Folders that containers can see although a volume may cover them.
    pub(crate) visible: Vec<PathBuf>,
    /// What `$(NAME)` in the table stands for: paths of this machine, which no volume's path may replace.
    pub(crate) places: BTreeMap<String, String>,
}

impl Images {
    /// Every container of that name whose image's name contains `image` runs the program, whatever its command.
    #[must_use]
    pub fn container(mut self, name: &str, image: &str, command: &[&str]) -> Self {
        let program = Program { command: owned(command), with_args: false, over_command: true };
        let image = Some(image.to_owned()).filter(|part| !part.is_empty());
        self.rules.push(Rule { container: Some(name.to_owned()), image, program });
        self
    }

    /// Containers whose image's name contains `part` run the program with their own arguments, unless they have a command.
    #[must_use]
    pub fn image(mut self, part: &str, command: &[&str]) -> Self {
        let program = Program { command: owned(command), with_args: true, over_command: false };
        self.rules.push(Rule { container: None, image: Some(part.to_owned()), program });
        self
    }

    /// A folder that containers need to see, whatever their volumes cover.
    #[must_use]
    pub fn visible(mut self, folder: impl Into<PathBuf>) -> Self {
        self.visible.push(folder.into());
        self
    }

    /// A path of this machine that programs of the table name as `$(NAME)`.
    #[must_use]
    pub fn place(mut self, name: &str, path: &Path) -> Self {
        self.places.insert(name.to_owned(), path.display().to_string());
        self
    }

    /// The command line of a container before variables and paths are replaced; nothing when no rule fits it.
    pub(crate) fn command_line(&self, container: &Container) -> Option<Vec<String>> {
        let own = container.command.clone().unwrap_or_default();
        let args = container.args.clone().unwrap_or_default();
        let image = container.image.as_deref().unwrap_or_default();
        let fits = |rule: &&Rule| {
            rule.container.as_ref().is_none_or(|name| *name == container.name)
                && rule.image.as_ref().is_none_or(|part| image.contains(part.as_str()))
                && (own.is_empty() || rule.program.over_command)
        };
        match self.rules.iter().find(fits) {
            Some(Rule { program, .. }) if program.with_args => Some([program.command.clone(), args].concat()),
            Some(Rule { program, .. }) => Some(program.command.clone()),
            None if own.is_empty() => None,
            None => Some([own, args].concat()),
        }
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let images =
            Images::default().container("server-config-init-base", "", &["true"]).image("agent", &["/bin/agent"]);
        let container = |name: &str, image: &str, command: &[&str], args: &[&str]| Container {
            name: name.to_owned(),
            image: Some(image.to_owned()),
            command: Some(owned(command)),
            args: Some(owned(args)),
            ..Container::default()
        };
        let line = |container: &Container| images.command_line(container);
        assert_eq!(line(&container("server-config-init-base", "x", &["cp"], &["a"])), Some(owned(&["true"])));
        assert_eq!(line(&container("medusa", "local/agent:1", &[], &["-v"])), Some(owned(&["/bin/agent", "-v"])));
        assert_eq!(line(&container("medusa", "local/agent:1", &["sh"], &["-v"])), Some(owned(&["sh", "-v"])));
        assert_eq!(line(&container("other", "x", &[], &["-v"])), None);
    }
}
