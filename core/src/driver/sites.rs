//! Numbers the source lines that acquire, in order of first use.

use std::collections::HashMap;
use std::panic::Location;

use crate::pool::SiteId;

pub(crate) struct Sites {
    known: Vec<&'static Location<'static>>,
    /// By address. Looked up only, never iterated.
    by_address: HashMap<usize, SiteId>,
    last: Option<(&'static Location<'static>, SiteId)>,
}

impl Sites {
    pub(crate) fn new() -> Self {
        Sites { known: Vec::new(), by_address: HashMap::new(), last: None }
    }

    /// The number of a line. The one asked for last costs a pointer comparison.
    pub(crate) fn intern(&mut self, location: &'static Location<'static>) -> SiteId {
        if let Some((last, id)) = self.last
            && std::ptr::eq(last, location)
        {
            return id;
        }
        let address = std::ptr::from_ref(location).addr();
        let next = SiteId(self.known.len() as u32);
        let id = *self.by_address.entry(address).or_insert(next);
        if id == next {
            self.known.push(location);
        }
        self.last = Some((location, id));
        id
    }

    /// All, by number.
    pub(crate) fn all(&self) -> &[&'static Location<'static>] {
        &self.known
    }

    pub(crate) fn location(&self, id: SiteId) -> Option<&'static Location<'static>> {
        self.known.get(id.0 as usize).copied()
    }
}
