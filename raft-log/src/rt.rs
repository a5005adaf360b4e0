//! The runtime under openraft: tokio on a real machine, madsim in the simulator.

#[cfg(not(madsim))]
pub use openraft_rt_tokio::TokioRuntime as Runtime;
#[cfg(madsim)]
pub use sim::SimRuntime as Runtime;

#[cfg(madsim)]
mod sim {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::{Duration, Instant};

    use openraft_rt::{AsyncRuntime, OptionalSend};
    use openraft_rt_sim::SimWatch;
    use openraft_rt_tokio::{TokioMpsc, TokioMutex, TokioOneshot};
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    /// madsim's tasks and clock. Channels are tokio's where they wake in order of arrival, and
    /// openraft's own deterministic one where they do not (`watch`).
    #[derive(Debug)]
    pub struct SimRuntime;

    type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

    /// The time was over.
    #[derive(Debug)]
    pub struct TimedOut;

    impl std::fmt::Display for TimedOut {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the time is over")
        }
    }

    impl std::error::Error for TimedOut {}

    /// A future with a limit to its time.
    pub struct Timeout<F> {
        future: Pin<Box<F>>,
        sleep: Boxed<()>,
    }

    impl<F: Future> Future for Timeout<F> {
        type Output = Result<F::Output, TimedOut>;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            if let Poll::Ready(output) = self.future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            self.sleep.as_mut().poll(cx).map(|()| Err(TimedOut))
        }
    }

    impl AsyncRuntime for SimRuntime {
        type JoinError = madsim::task::JoinError;
        type JoinHandle<T: OptionalSend + 'static> = madsim::task::JoinHandle<T>;
        type Sleep = Boxed<()>;
        type Instant = Instant;
        type TimeoutError = TimedOut;
        type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
        type ThreadLocalRng = SmallRng;
        type Mpsc = TokioMpsc;
        type Watch = SimWatch;
        type Oneshot = TokioOneshot;
        type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

        fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
        where
            T: Future + OptionalSend + 'static,
            T::Output: OptionalSend + 'static,
        {
            madsim::task::spawn(future)
        }

        fn sleep(duration: Duration) -> Self::Sleep {
            Box::pin(madsim::time::sleep(duration))
        }

        fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
            Box::pin(madsim::time::sleep(
                deadline.saturating_duration_since(Instant::now()),
            ))
        }

        fn timeout<R, F>(duration: Duration, future: F) -> Self::Timeout<R, F>
        where
            F: Future<Output = R> + OptionalSend,
        {
            Timeout {
                future: Box::pin(future),
                sleep: Self::sleep(duration),
            }
        }

        fn timeout_at<R, F>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F>
        where
            F: Future<Output = R> + OptionalSend,
        {
            Self::timeout(deadline.saturating_duration_since(Instant::now()), future)
        }

        fn is_panic(error: &Self::JoinError) -> bool {
            error.is_panic()
        }

        fn thread_rng() -> Self::ThreadLocalRng {
            SmallRng::seed_from_u64(madsim::rand::random())
        }

        fn new(_threads: usize) -> Self {
            SimRuntime
        }

        fn block_on<F, T>(&mut self, _future: F) -> T
        where
            F: Future<Output = T>,
        {
            panic!("madsim owns the executor")
        }
    }
}
