//! Chooses the sandbox that a command acts on: by its name, or by the current folder.

use std::path::Path;

use super::ObservedSandbox;
use crate::engine::identity::SandboxName;
use crate::spec::{ProjectName, git_branch};

/// How the user specified the sandbox.
#[derive(Debug, Clone)]
pub struct Choice<'a> {
    /// `--name`, or `SANDBOX_NAME`.
    pub name: Option<&'a SandboxName>,
    /// The name that the spec in this folder and the git branch give, if there is a spec.
    pub derived: Option<&'a SandboxName>,
    /// The current folder, absolute.
    pub folder: &'a Path,
}

/// There is no matching sandbox, or more than one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSandbox {
    /// There is none of that name.
    #[error("there is no sandbox `{name}`")]
    Named {
        /// The requested name.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// There is none of this folder.
    #[error("this folder has no sandbox")]
    Here {
        /// The names that exist for other folders.
        known: Vec<String>,
    },
    /// This folder's sandboxes all have another name than the folder's own.
    #[error("this folder's own sandbox is not up")]
    NotOwn {
        /// The names of those that were created from it.
        names: Vec<String>,
    },
    /// There are several of this folder, and none of this branch.
    #[error("this folder has {} sandboxes", names.len())]
    Several {
        /// Their names.
        names: Vec<String>,
    },
}

impl NoSandbox {
    /// How to solve it.
    pub fn hint(&self) -> String {
        match self {
            Self::Named { known, .. } | Self::Here { known } if known.is_empty() => {
                "`sandbox up` makes one".to_owned()
            }
            Self::Named { name, known } => {
                let near = known.iter().min_by_key(|other| strsim::damerau_levenshtein(other, name));
                match near.filter(|other| strsim::damerau_levenshtein(other, name) <= 3) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", super::quoted(known)),
                }
            }
            Self::Here { known } => {
                format!("`sandbox up` makes one; elsewhere there are {} (`--name`)", super::quoted(known))
            }
            Self::NotOwn { names } => {
                format!("others were made from it; name the one that is meant: {}", super::quoted(names))
            }
            Self::Several { names } => format!("say which with `--name`: {}", super::quoted(names)),
        }
    }
}

/// The sandbox to act on: the named one; else the branch's; else the only one of this folder (or of the nearest parent
/// folder that has any).
pub fn choose<'a>(
    observed: &'a [ObservedSandbox],
    choice: &Choice<'_>,
) -> Result<&'a ObservedSandbox, NoSandbox> {
    let known = || observed.iter().map(|observed| observed.name.clone()).collect::<Vec<_>>();
    let named = |name: &SandboxName| observed.iter().find(|observed| observed.name == name.as_str());
    if let Some(name) = choice.name {
        return named(name).ok_or_else(|| NoSandbox::Named { name: name.to_string(), known: known() });
    }
    if let Some(observed) = choice.derived.and_then(named) {
        return Ok(observed);
    }
    for folder in choice.folder.ancestors() {
        let here: Vec<&ObservedSandbox> =
            observed.iter().filter(|observed| observed.folder == folder).collect();
        match here.as_slice() {
            [] => {}
            [only] => return Ok(only),
            several => {
                let names = several.iter().map(|observed| observed.name.clone()).collect();
                return Err(NoSandbox::Several { names });
            }
        }
    }
    Err(NoSandbox::Here { known: known() })
}

/// The sandbox that belongs to the folder: the named one, or the one that the folder's spec and branch name. Others
/// that were created from the folder (forks, sandboxes of other branches and of `run`) are never chosen, even if there
/// is only one.
pub fn own<'a>(
    observed: &'a [ObservedSandbox],
    choice: &Choice<'_>,
) -> Result<&'a ObservedSandbox, NoSandbox> {
    let Some(name) = choice.name.or(choice.derived) else { return own_of_bare(observed, choice.folder) };
    if let Some(observed) = observed.iter().find(|observed| observed.name == name.as_str()) {
        return Ok(observed);
    }
    if choice.name.is_some() {
        let known = observed.iter().map(|observed| observed.name.clone()).collect();
        return Err(NoSandbox::Named { name: name.to_string(), known });
    }
    Err(none_own(observed, choice.folder))
}

/// The same in a folder without a spec: the one that the folder's name and branch name, else the only one that was
/// created from it (by `up --from FILE`).
fn own_of_bare<'a>(observed: &'a [ObservedSandbox], folder: &Path) -> Result<&'a ObservedSandbox, NoSandbox> {
    let project = folder.file_name().map(|name| ProjectName::from_folder(&name.to_string_lossy()));
    let name = project.map(|project| SandboxName::derive(project.as_str(), git_branch(folder).as_deref()));
    let own = |observed: &&ObservedSandbox| {
        observed.folder == folder && name.as_ref().is_some_and(|name| name.as_str() == observed.name)
    };
    let mut here = observed.iter().filter(|observed| observed.folder == folder);
    match (observed.iter().find(own), here.next(), here.next()) {
        (Some(own), ..) => Ok(own),
        (None, Some(only), None) => Ok(only),
        _ => Err(none_own(observed, folder)),
    }
}

fn none_own(observed: &[ObservedSandbox], folder: &Path) -> NoSandbox {
    let (here, elsewhere): (Vec<_>, Vec<_>) = observed.iter().partition(|observed| observed.folder == folder);
    let names = |observed: Vec<&ObservedSandbox>| observed.into_iter().map(|it| it.name.clone()).collect();
    if here.is_empty() {
        NoSandbox::Here { known: names(elsewhere) }
    } else {
        NoSandbox::NotOwn { names: names(here) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(name: &str, folder: &str) -> ObservedSandbox {
        ObservedSandbox { name: name.into(), folder: folder.into(), ..ObservedSandbox::default() }
    }

    fn name(text: &str) -> SandboxName {
        SandboxName::new(text).unwrap()
    }

    fn chosen(choice: &Choice<'_>) -> Result<String, NoSandbox> {
        let all = [
            observed("shop-main", "/src/shop"),
            observed("shop-fix", "/src/shop"),
            observed("blog", "/src/blog"),
        ];
        choose(&all, choice).map(|observed| observed.name.clone())
    }

    fn at(folder: &str) -> Choice<'_> {
        Choice { name: None, derived: None, folder: Path::new(folder) }
    }

    #[test]
    fn a_given_name_wins() {
        let blog = name("blog");
        assert_eq!(chosen(&Choice { name: Some(&blog), ..at("/src/shop") }), Ok("blog".into()));
    }

    #[test]
    fn a_name_that_is_not_there_is_an_error_even_where_the_folder_has_one() {
        let other = name("blgo");
        let error = chosen(&Choice { name: Some(&other), ..at("/src/blog") }).unwrap_err();
        assert_eq!(error.to_string(), "there is no sandbox `blgo`");
        assert_eq!(error.hint(), "did you mean `blog`?");
    }

    #[test]
    fn the_branch_s_comes_before_the_folder_s() {
        let fix = name("shop-fix");
        assert_eq!(chosen(&Choice { derived: Some(&fix), ..at("/src/shop") }), Ok("shop-fix".into()));
    }

    #[test]
    fn a_folder_s_own_is_the_one_of_its_branch_alone() {
        let all = [observed("shop-fix", "/src/shop"), observed("blog", "/src/blog")];
        let (main, fix) = (name("shop-main"), name("shop-fix"));
        let own = |choice: &Choice<'_>| own(&all, choice).map(|observed| observed.name.clone());
        assert_eq!(own(&Choice { derived: Some(&fix), ..at("/src/shop") }), Ok("shop-fix".into()));
        let error = own(&Choice { derived: Some(&main), ..at("/src/shop") }).unwrap_err();
        assert_eq!(error, NoSandbox::NotOwn { names: vec!["shop-fix".into()] });
        assert_eq!(own(&at("/src/blog")), Ok("blog".into()));
    }

    #[test]
    fn a_folder_without_a_spec_owns_the_only_sandbox_that_was_created_from_it() {
        let mut all = vec![observed("shop-bug", "/tmp/received"), observed("blog", "/src/blog")];
        let own = |all: &[ObservedSandbox]| {
            super::own(all, &at("/tmp/received")).map(|observed| observed.name.clone())
        };
        assert_eq!(own(&all), Ok("shop-bug".into()));
        all.push(observed("shop-bug-2", "/tmp/received"));
        let names = vec!["shop-bug".into(), "shop-bug-2".into()];
        assert_eq!(own(&all).unwrap_err(), NoSandbox::NotOwn { names });
    }

    #[test]
    fn the_folder_s_only_one_is_meant_from_below_too() {
        assert_eq!(chosen(&at("/src/blog/drafts")), Ok("blog".into()));
    }

    #[test]
    fn several_of_a_folder_must_be_told_apart() {
        let error = chosen(&at("/src/shop")).unwrap_err();
        assert_eq!(error.hint(), "say which with `--name`: `shop-main`, `shop-fix`");
    }

    #[test]
    fn a_folder_without_one_says_what_there_is_elsewhere() {
        let error = chosen(&at("/tmp")).unwrap_err();
        assert_eq!(error.to_string(), "this folder has no sandbox");
        assert!(error.hint().contains("`blog`"), "{}", error.hint());
    }
}
