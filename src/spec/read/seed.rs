//! Reads `seed` of a service and of a volume.

use super::super::problem::ProblemKind;
use super::super::seed::{SYNTAX, Seed, SeedStage, SeedSyntax};
use super::{Fields, Reader};

impl Reader<'_> {
    pub(super) fn service_seeds(&self, fields: &Fields<'_>) -> Vec<Seed> {
        self.seeds(fields, |kind| kind.stage == SeedStage::Run, "a volume")
    }

    pub(super) fn volume_seeds(&self, fields: &Fields<'_>) -> Vec<Seed> {
        self.seeds(fields, |kind| kind.stage != SeedStage::Run, "a service")
    }

    /// Reads the seeds of one place, which accepts some kinds; the others belong to the `other` place.
    fn seeds(&self, fields: &Fields<'_>, accepted: impl Fn(&SeedSyntax) -> bool, other: &str) -> Vec<Seed> {
        let seeds = fields.list("seed").iter().filter_map(|node| {
            let inner = Fields::of(self.log, node, format!("a seed of {}", fields.what))?;
            let kind =
                SYNTAX.iter().filter(|kind| accepted(kind)).find(|kind| inner.node(kind.key).is_some());
            if kind.is_none() {
                self.no_kind(&inner, &accepted, other);
            }
            let seed = kind.and_then(|kind| (kind.read)(self, &inner, self.log.at(node.span)));
            inner.finish();
            seed
        });
        seeds.collect()
    }

    /// Reports a seed without a key that selects an accepted kind.
    fn no_kind(&self, inner: &Fields<'_>, accepted: impl Fn(&SeedSyntax) -> bool, other: &str) {
        let (here, elsewhere): (Vec<_>, Vec<_>) = SYNTAX.iter().partition(|kind| accepted(kind));
        let keys =
            |kinds: &[&SeedSyntax]| kinds.iter().map(|kind| format!("`{}`", kind.key)).collect::<Vec<_>>();
        let message = format!("{} has neither {}", inner.what, keys(&here).join(" nor "));
        let forms = here.iter().map(|kind| format!("`{}: {}`", kind.key, kind.value)).collect::<Vec<_>>();
        let hint = format!("{}; {} belong to {other}", forms.join(" or "), keys(&elsewhere).join(" and "));
        self.log.hinted(ProblemKind::Type, inner.span, message, hint);
        // One problem is enough: the other keys are not reported as unknown.
        for (key, _) in SYNTAX.iter().flat_map(|kind| (kind.schema)()) {
            let _ = inner.node(key);
        }
    }
}
