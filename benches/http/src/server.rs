//! The server: axum over hyper, with a runtime and a core of its own.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context;
use axum::serve::ListenerExt;
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Handle},
    sync::oneshot,
};

use crate::app::{Executions, Front, app};

/// Its connections end when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    executions: Executions,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) const CORE: usize = 0;

    /// A fresh one for every sample: where things lie in memory differs from one to the next.
    pub(crate) fn start(front: Front) -> anyhow::Result<Self> {
        let executions = Executions::default();
        let app = app(front, &executions);
        let (stop, stopped) = oneshot::channel();
        let (started, start) = mpsc::channel();
        let thread = thread::spawn(move || {
            // The thread for blocking work, which this one starts, gets its core. There is no use
            // in more than one of them.
            kit::pin::to_core(Self::CORE);
            let runtime =
                Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
            let runtime = runtime.expect("there are descriptors for a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await;
                let listener = listener.expect("a port of loopback is free");
                let address = listener.local_addr().expect("it is bound");
                let listener = listener.tap_io(|socket| _ = socket.set_nodelay(true));
                _ = started.send((address, Handle::current()));
                tokio::select! {
                    _ = axum::serve(listener, app).into_future() => {}
                    _ = stopped => {}
                }
            });
        });
        let (address, runtime) = start.recv().context("the server did not start")?;
        Ok(Self { address, executions, runtime, stop: Some(stop), thread: Some(thread) })
    }

    /// What it has done up to now.
    pub(crate) async fn usage(&self) -> anyhow::Result<Usage> {
        let executions = Arc::clone(&self.executions);
        // Read by its thread, whose time is asked for.
        let read = self.runtime.spawn(async move {
            let cpu = clock_gettime(ClockId::ThreadCPUTime);
            Usage {
                at: Instant::now(),
                executions: executions.load(Relaxed),
                cpu: Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32),
            }
        });
        read.await.context("the server has ended")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

pub(crate) struct Usage {
    pub(crate) at: Instant,
    pub(crate) executions: u64,
    /// Of the thread that serves, in its own code and in the kernel; not of blocking work.
    pub(crate) cpu: Duration,
}
