//! What a caller asks for: its options, as the table and the flight see them.

use std::time::Duration;

use super::{Patience, state::Who};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) who: Who,
    /// Whether it wants an execution that begins after its call.
    pub(crate) fresh: bool,
    /// It joins a flight only if that has fewer.
    pub(crate) max_followers: usize,
    /// It joins a flight only if that is younger.
    pub(crate) max_age: Option<Duration>,
    /// Whether a handle waits for the flight beside it.
    pub(crate) is_watched: bool,
    /// Whether it may be part of the work that it joins. It does not wait itself.
    pub(crate) nests: bool,
}

impl Ask {
    pub(crate) const DEFAULT: Self = Self {
        who: Who::Able,
        fresh: false,
        max_followers: usize::MAX,
        max_age: None,
        is_watched: false,
        nests: false,
    };

    /// Whether it takes part in any flight, as anybody.
    #[inline(always)]
    pub(crate) fn is_plain(&self) -> bool {
        self.who == Who::Able
            && !self.fresh
            && self.max_followers == usize::MAX
            && self.max_age.is_none()
            && !self.is_watched
            && !self.nests
    }
}

/// Where the options come from: those of an everyday call need no room in its future.
pub(crate) trait Asks {
    fn ask(&self) -> &Ask;

    /// How long the call waits for others, if that is limited.
    #[inline(always)]
    fn patience(&mut self) -> Option<&mut Patience> {
        None
    }
}

impl Asks for Ask {
    fn ask(&self) -> &Ask {
        self
    }
}

/// The options of an async call that states some.
pub(crate) struct Stated {
    pub(crate) ask: Ask,
    pub(crate) patience: Patience,
}

impl Asks for Stated {
    fn ask(&self) -> &Ask {
        &self.ask
    }

    fn patience(&mut self) -> Option<&mut Patience> {
        Some(&mut self.patience)
    }
}

/// No options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain;

impl Asks for Plain {
    #[inline(always)]
    fn ask(&self) -> &Ask {
        &Ask::DEFAULT
    }
}
