//! `up URL` and `up --ref`: builds from a temporary clone or worktree, which goes with the sandbox.
//!
//! A clone, and a pull request, are a stranger's: its spec uses its own files and nothing of the user, unless the user
//! allows it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use super::Args;
use crate::cli::{Context, Failure, consent};
use crate::engine::Engine;
use crate::engine::identity::Scope;
use crate::report::Output;
use crate::session::error::SessionError;
use crate::session::git::GitError;
use crate::session::git::address::{Reference, RepositoryAddress};
use crate::session::git::checkout::{self, Author, Checkout};
use crate::session::git::store::{CheckoutError, CheckoutFolder};
use crate::session::inspect;
use crate::spec::{
    self, Boundary, GitBranch, HostAccess, LoadRequest, Loaded, ProblemKind, Problems, Refusals, SandboxName,
    SpecOrigin,
};

/// What a temporary checkout is made of.
pub(super) enum Source {
    /// Another repository.
    Repository(RepositoryAddress),
    /// A branch, commit or request of the repository of this folder.
    Reference(Reference),
}

/// What the arguments name instead of the files of this folder. A repository is no longer among the services then.
pub(super) fn source(args: &mut Args) -> Result<Option<Source>, Failure> {
    let services = &mut args.target.services;
    let is_repository = services.first().is_some_and(|first| RepositoryAddress::is_one(first));
    let source = match (&args.reference, is_repository) {
        (Some(_), true) => {
            let hint = "name it in the address: `URL#REF`".to_owned();
            return Err(Failure::usage("`--ref` is for the repository of this folder", Some(hint)));
        }
        (Some(reference), false) => Source::Reference(reference.clone()),
        (None, true) => Source::Repository(RepositoryAddress::from_str(&services.remove(0))?),
        (None, false) => return Ok(None),
    };
    let unfit = [
        (args.watch, "`--watch` follows the files of a folder of yours"),
        (args.target.build.from.is_some(), "`--from` brings a spec of its own"),
        (args.target.spec.project_directory.is_some(), "`--project-directory` is a folder of yours"),
    ];
    match unfit.into_iter().find(|(given, _)| *given) {
        Some((_, why)) => {
            let hint = "leave it out; a folder in the repository is `URL#REF:FOLDER`".to_owned();
            Err(Failure::usage(format!("{why}, and this is a temporary checkout"), Some(hint)))
        }
        None => Ok(Some(source)),
    }
}

/// Makes the checkout.
pub(super) async fn make(source: Source, context: &Context) -> Result<Checkout, Failure> {
    let engine = context.engine().await?;
    let place = CheckoutFolder::make(&*engine, &context.scope()?).await?;
    let path = place.path().to_owned();
    let made = match &source {
        Source::Repository(address) => {
            tell(context, &format!("cloning `{}`", address.url));
            checkout::clone(address, place).await
        }
        Source::Reference(reference) => checkout::worktree(&Context::folder()?, reference, place).await,
    };
    if made.is_err() {
        tracing::debug!(path = %path.display(), "an incomplete checkout is removed");
        sweep(context).await;
    }
    Ok(made?)
}

fn tell(context: &Context, text: &str) {
    use crate::cli::support::options::Progress;
    if !matches!(context.globals.progress, Progress::Json | Progress::Quiet) {
        Output::stderr().line(text);
    }
}

/// Gives a checkout back, once its session has ended: it stays with a sandbox that is detached.
pub(super) async fn release(checkout: Checkout, context: &Context) {
    drop(checkout);
    sweep(context).await;
}

async fn sweep(context: &Context) {
    let released = async {
        let engine = context.engine().await?;
        Ok::<_, Failure>(crate::session::git::store::sweep(&*engine, &context.scope()?).await?)
    };
    if let Err(error) = released.await {
        let cause = crate::report::error::chain(&error).join(": ");
        Output::stderr().line(&format!("warning: a temporary checkout stays: {cause}"));
    }
}

/// Loads the spec of a checkout.
pub(super) async fn loaded(context: &Context, args: &Args, checkout: &Checkout) -> Result<Loaded, Failure> {
    let asked = context.spec_options(&args.target.spec).host_access();
    let request = request(context, args, checkout, asked)?;
    has_spec(&request, checkout)?;
    let mut loaded = match spec::load(&request) {
        Ok(loaded) => loaded,
        Err(problems) if may_be_allowed(&request, &problems) && allows(&problems).await? => {
            let request = self::request(context, args, checkout, HostAccess::Allowed)?;
            spec::load(&request).map_err(Failure::Spec)?
        }
        Err(problems) => return Err(Failure::Spec(problems)),
    };
    let repository = spec::git_common_folder(&Context::folder()?);
    let branch = checkout.branch.clone().zip(repository);
    loaded.spec.branch = branch.map(|(name, repository)| GitBranch { name, repository });
    if let Some(label) = &checkout.label {
        loaded.sandbox = SandboxName::derive(loaded.spec.name.as_str(), Some(label));
    }
    Ok(loaded)
}

fn may_be_allowed(request: &LoadRequest, problems: &Problems) -> bool {
    request.origin != SpecOrigin::Local
        && request.allow_host_access == HostAccess::Refused
        && problems.iter().all(|problem| problem.kind == ProblemKind::HostAccess)
}

async fn allows(problems: &Problems) -> Result<bool, Failure> {
    consent::ask(problems.iter().map(|problem| problem.message.clone()).collect()).await
}

fn request(
    context: &Context,
    args: &Args,
    checkout: &Checkout,
    access: HostAccess,
) -> Result<LoadRequest, Failure> {
    let own = context.load_request(&args.target.spec, &args.target.services, Refusals::Fail)?;
    let mut env_files: Vec<PathBuf> = own.env_files.iter().map(|file| own.folder.join(file)).collect();
    let dotenv = own.folder.join(".env");
    let is_lacking = env_files.is_empty() && !checkout.folder.join(".env").exists();
    // A file of variables is mostly not committed.
    env_files.extend(Some(dotenv).filter(|it| checkout.author == Author::User && is_lacking && it.is_file()));
    let own = LoadRequest { env_files, allow_host_access: access, ..own };
    let trusted = LoadRequest { folder: checkout.folder.clone(), ..own.clone() };
    if checkout.author == Author::User {
        return Ok(trusted);
    }
    let origin = SpecOrigin::Repository;
    if access == HostAccess::Allowed {
        return Ok(LoadRequest { origin, ..trusted });
    }
    // Files of variables that the user names are meant for the spec; nothing else of the environment is.
    let env = if own.env_files.is_empty() {
        BTreeMap::new()
    } else {
        spec::variables_of(&LoadRequest { env: BTreeMap::new(), ..own }).map_err(Failure::Spec)?
    };
    let boundary = Boundary { folder: checkout.root.clone(), ..Boundary::default() };
    Ok(LoadRequest { env, env_files: Vec::new(), boundary: Some(boundary), origin, ..trusted })
}

/// Fails if the search for a spec would leave the checkout.
fn has_spec(request: &LoadRequest, checkout: &Checkout) -> Result<(), Failure> {
    let named = !request.files.is_empty() || request.env.contains_key("COMPOSE_FILE");
    let found = || spec::files_for(&checkout.folder);
    if named || found().is_some_and(|files| files.iter().all(|file| file.starts_with(&checkout.root))) {
        return Ok(());
    }
    let hint = "commit one (`sandbox init` writes it), or name the folder that has one: `URL#REF:FOLDER`";
    Err(Failure::failed("there is no spec in the repository", Some(hint.to_owned())))
}

/// Fails if there is a sandbox of this name: a checkout is for a sandbox of its own.
pub(super) async fn name_is_free(
    engine: &dyn Engine,
    scope: &Scope,
    name: &SandboxName,
) -> Result<(), Failure> {
    let Some(there) = inspect::sandbox(engine, scope, name).await? else { return Ok(()) };
    let message = format!("sandbox `{name}` is there already, made from `{}`", there.folder.display());
    let hint = format!("`sandbox down {name}` destroys it; `--name` gives the new one another name");
    Err(Failure::failed(message, Some(hint)))
}

impl From<GitError> for Failure {
    fn from(error: GitError) -> Self {
        match error {
            GitError::Cancelled => Self::Session(SessionError::Cancelled),
            GitError::Address { .. } | GitError::Reference { .. } => {
                Self::usage(error.to_string(), error.hint())
            }
            other => {
                let hint = other.hint();
                Self::failed(crate::report::error::chain(&other).join(": "), hint)
            }
        }
    }
}

impl From<CheckoutError> for Failure {
    fn from(error: CheckoutError) -> Self {
        match error {
            CheckoutError::Engine(error) => Self::Engine(error),
            CheckoutError::Git(error) => error.into(),
        }
    }
}
