//! `graph`: draws the spec as a tree, as DOT or as Mermaid.

use clap::ValueEnum;

use super::{Context, Exit, Failure, SpecOptions};
use crate::report::Output;
use crate::report::graph::{Picture, dot, mermaid, tree};
use crate::spec::Refusals;

/// Arguments of `graph`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecOptions,
    /// Form of the picture
    #[arg(long, value_enum, default_value = "tree")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Lines for a terminal
    Tree,
    /// Graphviz
    Dot,
    /// Mermaid
    Mermaid,
}

/// Runs `graph`.
pub fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    args.run(context)
}

impl Args {
    fn run(&self, context: &Context) -> Result<Exit, Failure> {
        let picture = Picture::from(&context.load(&self.spec, &[], Refusals::Warn)?.spec);
        let mut out = Output::stdout();
        match self.format {
            _ if context.globals.json => out.json(&picture),
            Format::Tree => out.lines(tree(out.look(), &picture)),
            Format::Dot => out.block(&dot(&picture)),
            Format::Mermaid => out.block(&mermaid(&picture)),
        }
        Ok(Exit::Done)
    }
}
