//! Applies `extends`.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{Assembler, MAX_DEPTH, Scope, section, section_mut};
use crate::spec::canonical;
use crate::spec::merge;
use crate::spec::nearest;
use crate::spec::node::{Map, Node, Span};
use crate::spec::problem::{ProblemKind, shown};

impl Assembler<'_> {
    /// Applies `extends` to every service of a document.
    pub(super) fn extend_all(&mut self, document: &mut Node, file: &Path, scope: &Scope) {
        let Some(services) = section(document, "services").cloned().map(Rc::new) else { return };
        let names: Vec<String> = services.entries.iter().map(|entry| entry.key.clone()).collect();
        for name in names {
            let mut trail = Vec::new();
            let extended = self.extended(&services, &name, file, scope, &mut trail);
            if let (Some(extended), Some(own)) = (extended, section_mut(document, "services"))
                && let Some(service) = own.get_mut(&name)
            {
                *service = extended;
            }
        }
    }

    /// A service, merged over the service that it extends, if any.
    pub(super) fn extended(
        &mut self,
        services: &Rc<Map>,
        name: &str,
        file: &Path,
        scope: &Scope,
        trail: &mut Vec<(PathBuf, String)>,
    ) -> Option<Node> {
        let service = services.get(name)?;
        let extends = service.as_map()?.get("extends")?;
        let Some(reference) = extends.as_map() else {
            let message =
                format!("`extends` of service `{name}` takes a service's name, this is {}", extends.kind());
            self.log.problem(ProblemKind::Type, extends.span, message);
            return Some(service.clone());
        };
        trail.push((file.to_owned(), name.to_owned()));
        let base = self.extended_base(services, name, extends.span, reference, (file, scope), trail);
        trail.pop();
        let Some(mut base) = base else { return Some(service.clone()) };
        let own = without_extends(service);
        merge::settle(&mut base);
        let tags = own.clone();
        merge::merge_service(&mut base, own);
        // A reset or override also applies to the values of earlier files.
        merge::retag(&mut base, &tags);
        Some(base)
    }

    /// The service that another one extends, with its own `extends` applied.
    pub(super) fn extended_base(
        &mut self,
        services: &Rc<Map>,
        name: &str,
        span: Span,
        reference: &Map,
        (file, scope): (&Path, &Scope),
        trail: &mut Vec<(PathBuf, String)>,
    ) -> Option<Node> {
        for entry in &reference.entries {
            if !matches!(entry.key.as_str(), "service" | "file") && !entry.key.starts_with("x-") {
                let message = format!("`{}` is not a key of `extends`", entry.key);
                let hint = nearest::hint(&entry.key, ["service", "file"]);
                self.log.hinted(ProblemKind::UnknownKey, entry.span, message, hint);
            }
        }
        let Some(of) = reference.get("service").and_then(Node::scalar) else {
            let message = format!("`extends` of service `{name}` does not name a service");
            self.log.hinted(ProblemKind::Type, span, message, "add `service: NAME`");
            return None;
        };
        let at = reference.get("service").map_or(span, |node| node.span);
        let (found, from, scope) =
            match reference.get("file").and_then(|node| Some((node.scalar()?, node.span))) {
                None => (Rc::clone(services), file.to_owned(), scope.clone()),
                Some((other, span)) => {
                    let path = canonical::clean(&scope.folder.join(other));
                    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
                    let scope = Scope { variables: scope.variables.clone(), folder };
                    (self.services_of(&path, &scope, span)?, path, scope)
                }
            };
        if trail.len() > MAX_DEPTH {
            let message = format!("services extend each other more than {MAX_DEPTH} deep");
            self.log.problem(ProblemKind::Cycle, at, message);
            return None;
        }
        let step = (from.clone(), of.clone());
        if trail.contains(&step) {
            let mut names: Vec<&str> = trail.iter().map(|(_, name)| name.as_str()).collect();
            names.push(&of);
            let message = format!("services extend each other in a circle: {}", names.join(" → "));
            // Every service of the cycle finds the same cycle.
            names.sort_unstable();
            names.dedup();
            if self.circles.insert(names.join(" ")) {
                self.log.hinted(ProblemKind::Cycle, at, message, "let one of them stand alone");
            }
            return None;
        }
        let Some(base) = found.get(&of) else {
            let place = shown(&from, self.standing_in);
            let message = format!("service `{name}` extends `{of}`, which is not in `{}`", place.display());
            let names = found.entries.iter().map(|entry| entry.key.as_str()).filter(|other| *other != name);
            self.log.hinted(ProblemKind::Reference, at, message, nearest::hint(&of, names));
            return None;
        };
        self.extended(&found, &of, &from, &scope, trail).or_else(|| Some(base.clone()))
    }

    /// The services of a file that `extends` refers to.
    pub(super) fn services_of(&mut self, path: &Path, scope: &Scope, span: Span) -> Option<Rc<Map>> {
        if !self.extended.contains_key(path) {
            self.require_file(path, "extend from", span)?;
            if !self.files.contains(&path.to_owned()) {
                self.files.push(path.to_owned());
            }
            let mut documents = self.documents(path, scope)?.into_iter();
            // Tags are kept: they also apply to what the services of this file extend.
            let mut all = documents.next()?;
            documents.for_each(|document| merge::merge(&mut all, document));
            let services = section(&all, "services").cloned().unwrap_or_default();
            self.extended.insert(path.to_owned(), Rc::new(services));
        }
        self.extended.get(path).cloned()
    }
}

pub(super) fn without_extends(service: &Node) -> Node {
    let mut service = service.clone();
    if let Some(map) = service.as_map_mut() {
        map.remove("extends");
    }
    service
}
