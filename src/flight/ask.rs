//! What a caller asks for: its options, as the table and the flight see them.

use std::time::Duration;

use super::state::Who;

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
    /// How long it waits for others, if it can tell the time.
    pub(crate) timeout: Option<Duration>,
}

impl Ask {
    pub(crate) const DEFAULT: Self = Self {
        who: Who::Able,
        fresh: false,
        max_followers: usize::MAX,
        max_age: None,
        is_watched: false,
        nests: false,
        timeout: None,
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
}

impl Asks for Ask {
    fn ask(&self) -> &Ask {
        self
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
