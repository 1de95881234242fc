//! `sandbox artifacts`: what destroyed sandboxes left behind, kept for a day.

use std::path::PathBuf;

use super::{Context, Exit, Failure};
use crate::agent::client::{Keeper, Options};
use crate::report::Output;
use crate::report::table::Table;
use crate::spec::SandboxName;

/// Arguments of `artifacts`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sandbox whose last logs and artifacts are brought here (default: list what there is).
    #[arg(value_name = "NAME")]
    sandbox: Option<SandboxName>,
    /// The folder they are brought to.
    #[arg(long, value_name = "FOLDER", default_value = "sandbox-artifacts")]
    into: PathBuf,
}

/// Runs the verb.
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
    let folder = args.into.join(name.as_str());
    keeper.bring(last, &folder).await?;
    out.line(&folder.display().to_string());
    Ok(Exit::Done)
}
