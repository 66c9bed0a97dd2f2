//! Every way to call, and what happens to calls.

/// Every way to call, and what happens to calls.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Run,
    Call,
    Relay,
    RunMany,
    Spawn,
    Task,
    Join,
    LeadOrJoin,
    RunBlocking,
    CallBlocking,
    JoinBlocking,
    LeadBlocking,
    BlockOnRun,
    BlockOnRelay,
    Forget,
    ForgetUnshared,
    Wave,
    Duel,
    // Ends of calls.
    Answered,
    LedForOthers,
    TookOver,
    FreshAnswered,
    Dropped,
    Parked,
    TaskDropped,
    Panicked,
    Cancelled,
    TimedOut,
    TooManyFollowers,
    LeftOut,
}

impl Kind {
    pub(crate) fn has_handle(self) -> bool {
        use Kind::{Join, JoinBlocking, LeadBlocking, LeadOrJoin, Spawn, Task};
        matches!(self, Join | JoinBlocking | LeadBlocking | LeadOrJoin | Spawn | Task)
    }
}

pub(crate) const KINDS: [&str; 30] = [
    "run",
    "call",
    "relay",
    "run_many",
    "spawn",
    "task",
    "join",
    "lead_or_join",
    "run_blocking",
    "call, blocking",
    "join, blocking",
    "lead_or_join, blocking",
    "run, no runtime",
    "relay, no runtime",
    "forgotten",
    "forgotten, unshared",
    "keys in waves",
    "dropped in one instant",
    "answered",
    "led for others",
    "took over",
    "fresh and answered",
    "callers dropped",
    "left unpolled a while",
    "tasks dropped",
    "panicked",
    "cancelled",
    "timed out",
    "too many followers",
    "keys left out",
];

/// What tasks do, in turn.
pub(crate) const OF_TASKS: [Kind; 8] = [
    Kind::Run,
    Kind::Call,
    Kind::Relay,
    Kind::RunMany,
    Kind::Spawn,
    Kind::Task,
    Kind::Join,
    Kind::LeadOrJoin,
];

/// And threads.
pub(crate) const OF_THREADS: [Kind; 6] = [
    Kind::RunBlocking,
    Kind::CallBlocking,
    Kind::JoinBlocking,
    Kind::LeadBlocking,
    Kind::BlockOnRun,
    Kind::BlockOnRelay,
];
