//! How many connections there may be, in all and from one address: idle sockets must not starve the rest.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone)]
pub(super) struct Bounds(Arc<Inner>);

struct Inner {
    max: AtomicUsize,
    max_per_address: AtomicUsize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place; leaving gives it back.
pub(super) struct Place {
    bounds: Bounds,
    address: IpAddr,
}

impl Bounds {
    pub(super) fn new(max: usize, max_per_address: usize) -> Self {
        Self(Arc::new(Inner {
            max: AtomicUsize::new(max),
            max_per_address: AtomicUsize::new(max_per_address),
            open: Mutex::default(),
        }))
    }

    /// Puts other bounds in force; who is in stays in.
    pub(super) fn set(&self, max: usize, max_per_address: usize) {
        self.0.max.store(max, Ordering::Relaxed);
        self.0
            .max_per_address
            .store(max_per_address, Ordering::Relaxed);
    }

    /// A place for a connection from `address`, while there is one.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.by_address.get(&address).copied().unwrap_or(0);
        let max_here = self.0.max_per_address.load(Ordering::Relaxed);
        if open.total >= self.0.max.load(Ordering::Relaxed) || here >= max_here {
            return None;
        }
        open.total += 1;
        open.by_address.insert(address, here + 1);
        Some(Place {
            bounds: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self
            .bounds
            .0
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        match open.by_address.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_place() {
        let bounds = Bounds::new(3, 2);
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = bounds.enter(a).unwrap();
        let _second = bounds.enter(a).unwrap();
        assert!(bounds.enter(a).is_none());
        let _third = bounds.enter(b).unwrap();
        assert!(bounds.enter(b).is_none(), "three in all");
        drop(first);
        assert!(bounds.enter(a).is_some());
    }
}
