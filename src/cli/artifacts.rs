//! `sandbox artifacts`: lists or fetches the logs and artifacts of destroyed sandboxes, which are kept for a day.

use std::path::{Path, PathBuf};

use super::{Context, Exit, Failure};
use crate::agent::client::{Keeper, Options};
use crate::host_files::Folder;
use crate::report::Output;
use crate::report::table::Table;
use crate::spec::SandboxName;

/// Arguments of `artifacts`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Destroyed sandbox whose logs and artifacts to fetch (default: list all)
    #[arg(value_name = "NAME")]
    sandbox: Option<SandboxName>,
    /// Directory to write them to
    #[arg(long, value_name = "FOLDER", default_value = FOLDER)]
    into: Option<PathBuf>,
}

/// Default target folder.
const FOLDER: &str = "sandbox-artifacts";

/// Opens the target folder for a sandbox's files. A folder named by the user may be a symbolic link. Below it, and
/// below the working directory, links are not followed, because a service may have created them.
fn destination(into: Option<&Path>, name: &SandboxName) -> std::io::Result<Folder> {
    let name = Path::new(name.as_str());
    if let Some(into) = into.filter(|into| *into != Path::new(FOLDER)) {
        Folder::make(into)?.make_below(name)
    } else {
        let here = Context::folder().map_err(|error| std::io::Error::other(error.to_string()))?;
        Folder::open(&here)?.make_below(&Path::new(FOLDER).join(name))
    }
}

/// Runs `artifacts`.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Failure> {
    let keeper = Keeper::ensure(&context.engine().await?, Options::from_env()?).await?;
    let left = keeper.left(args.sandbox.as_ref()).await?;
    let mut out = Output::stdout();
    let Some(name) = args.sandbox else {
        if context.globals.json {
            out.json(&left);
        } else if left.is_empty() {
            Output::stderr().line("nothing was left behind in the last 24 hours");
        } else {
            let mut table = Table::new(["name", "destroyed", "files"]);
            for one in &left {
                let at = one.at.to_zoned_datetime(jiff::tz::TimeZone::system());
                let at = at.strftime("%Y-%m-%d %H:%M:%S").to_string();
                table.row([one.name.to_string(), at, one.files.len().to_string()]);
            }
            out.table(&table);
        }
        return Ok(Exit::Done);
    };
    let Some(last) = left.iter().max_by_key(|one| one.at) else {
        let hint = Some("`sandbox artifacts` lists what there is".to_owned());
        return Err(Failure::failed(format!("sandbox `{name}` left nothing behind"), hint));
    };
    let shown = args.into.as_deref().unwrap_or(Path::new(FOLDER)).join(name.as_str());
    let folder = destination(args.into.as_deref(), &name)
        .map_err(|error| Failure::failed(format!("cannot write to `{}`: {error}", shown.display()), None))?;
    keeper.bring(last, folder).await?;
    out.line(&shown.display().to_string());
    Ok(Exit::Done)
}
