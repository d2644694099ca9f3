use std::time::Duration;

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use chrono::{DateTime, Utc};
use domain::{Currency, PaymentId, RefundId};
use reqwest::header::HeaderMap;
use service::breaker::Breaker;

use crate::{
    CheckOut, MessageError, Notice, ParseError, PayableAmounts, PaymentReport, PaymentSession, Provider,
    ProviderError, Refund, ReportPage, SessionId, VerifiedMessage,
};

/// Limits on the calls to one provider.
#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    /// Longest time for one question, retries included.
    pub time: Duration,
    /// Most retries of a question while the provider cannot be reached.
    pub retries: usize,
    /// Pause before the first retry. It doubles with each, and jitter adds up to as much again.
    pub first_pause: Duration,
    /// Circuit breaker: consecutive failures before it opens.
    pub failures_to_open: u32,
    /// Circuit breaker: how long it stays open. Then one question is let through, and decides.
    pub open_for: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(5),
            retries: 2,
            first_pause: Duration::from_millis(100),
            failures_to_open: 5,
            open_for: Duration::from_secs(10),
        }
    }
}

/// A provider behind a time limit, retries and a circuit breaker.
///
/// Every question is idempotent at the provider, by its key or by its nature, so every question
/// may be repeated. A refusal is an answer: it is not repeated, and does not open the breaker.
pub struct Guarded {
    provider: Box<dyn Provider>,
    limits: CallLimits,
    breaker: Breaker,
}

impl Guarded {
    /// Guards `provider` with the usual limits.
    pub fn new(provider: Box<dyn Provider>) -> Self {
        Self::with_limits(provider, CallLimits::default())
    }

    /// Guards `provider` with limits of one's own.
    pub fn with_limits(provider: Box<dyn Provider>, limits: CallLimits) -> Self {
        let breaker = Breaker::new(provider.name(), limits.failures_to_open, limits.open_for);
        Self { provider, limits, breaker }
    }

    async fn ask<T, F>(&self, question: impl FnMut() -> F) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, ProviderError>>,
    {
        let Ok(leave) = self.breaker.enter() else {
            let reason = format!("{} kept failing and is left alone for a while", self.provider.name());
            return Err(ProviderError::Unavailable(reason));
        };
        let pauses = ExponentialBuilder::default()
            .with_min_delay(self.limits.first_pause)
            .with_max_times(self.limits.retries)
            .with_jitter();
        let tries = question.retry(pauses).when(|error| matches!(error, ProviderError::Unavailable(_)));
        let outcome = tokio::time::timeout(self.limits.time, tries).await.unwrap_or_else(|_| {
            Err(ProviderError::Unavailable(format!("no answer within {:?}", self.limits.time)))
        });
        match &outcome {
            Ok(_) | Err(ProviderError::Refused(_)) => leave.succeeded(),
            Err(ProviderError::Unavailable(_)) => leave.failed(),
        }
        outcome
    }
}

#[async_trait]
impl Provider for Guarded {
    fn name(&self) -> &'static str {
        self.provider.name()
    }

    fn owns(&self, payment_id: &PaymentId) -> bool {
        self.provider.owns(payment_id)
    }

    fn payable(&self, currency: Currency) -> PayableAmounts {
        self.provider.payable(currency)
    }

    async fn check_out(&self, check_out: CheckOut) -> Result<PaymentSession, ProviderError> {
        self.ask(|| self.provider.check_out(check_out.clone())).await
    }

    async fn close(&self, session_id: &SessionId) -> Result<(), ProviderError> {
        self.ask(|| self.provider.close(session_id)).await
    }

    async fn refund(&self, refund: Refund) -> Result<RefundId, ProviderError> {
        self.ask(|| self.provider.refund(refund.clone())).await
    }

    async fn void(&self, payment_id: &PaymentId) -> Result<(), ProviderError> {
        self.ask(|| self.provider.void(payment_id)).await
    }

    async fn fetch(&self, session_id: &SessionId) -> Result<PaymentReport, ProviderError> {
        self.ask(|| self.provider.fetch(session_id)).await
    }

    async fn look_up(&self, payment_id: &PaymentId) -> Result<Option<PaymentReport>, ProviderError> {
        self.ask(|| self.provider.look_up(payment_id)).await
    }

    async fn list(&self, cursor: Option<&str>) -> Result<ReportPage, ProviderError> {
        self.ask(|| self.provider.list(cursor)).await
    }

    async fn paid_out(&self, payout_id: &str, cursor: Option<&str>) -> Result<ReportPage, ProviderError> {
        self.ask(|| self.provider.paid_out(payout_id, cursor)).await
    }

    fn verify_and_parse(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<VerifiedMessage, MessageError> {
        self.provider.verify_and_parse(headers, body, now)
    }

    fn parse(&self, body: &[u8]) -> Result<Notice, ParseError> {
        self.provider.parse(body)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// The provider's reaction to each call in turn; the last one repeats.
    #[derive(Clone, Copy)]
    enum Behaviour {
        Answers,
        Refuses,
        IsDown,
        Hangs,
    }

    #[derive(Clone)]
    struct Scripted {
        script: Arc<Mutex<Vec<Behaviour>>>,
        asked: Arc<AtomicUsize>,
    }

    impl Scripted {
        async fn answer(&self) -> Result<(), ProviderError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let behaviour = {
                let mut script = self.script.lock().unwrap();
                if script.len() > 1 { script.remove(0) } else { script[0] }
            };
            match behaviour {
                Behaviour::Answers => Ok(()),
                Behaviour::Refuses => Err(ProviderError::Refused("no".to_owned())),
                Behaviour::IsDown => Err(ProviderError::Unavailable("down".to_owned())),
                Behaviour::Hangs => std::future::pending().await,
            }
        }
    }

    #[async_trait]
    impl Provider for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }

        fn owns(&self, _: &PaymentId) -> bool {
            true
        }

        fn payable(&self, _: Currency) -> PayableAmounts {
            unreachable!()
        }

        async fn check_out(&self, _: CheckOut) -> Result<PaymentSession, ProviderError> {
            unreachable!()
        }

        async fn close(&self, _: &SessionId) -> Result<(), ProviderError> {
            unreachable!()
        }

        async fn refund(&self, _: Refund) -> Result<RefundId, ProviderError> {
            unreachable!()
        }

        async fn void(&self, _: &PaymentId) -> Result<(), ProviderError> {
            self.answer().await
        }

        async fn fetch(&self, _: &SessionId) -> Result<PaymentReport, ProviderError> {
            unreachable!()
        }

        async fn look_up(&self, _: &PaymentId) -> Result<Option<PaymentReport>, ProviderError> {
            unreachable!()
        }

        async fn list(&self, _: Option<&str>) -> Result<ReportPage, ProviderError> {
            unreachable!()
        }

        fn verify_and_parse(
            &self,
            _: &HeaderMap,
            _: &[u8],
            _: DateTime<Utc>,
        ) -> Result<VerifiedMessage, MessageError> {
            unreachable!()
        }

        fn parse(&self, _: &[u8]) -> Result<Notice, ParseError> {
            unreachable!()
        }
    }

    fn guarded(script: &[Behaviour]) -> (Guarded, Scripted) {
        let script = Arc::new(Mutex::new(script.to_vec()));
        let provider = Scripted { script, asked: Arc::default() };
        (Guarded::new(Box::new(provider.clone())), provider)
    }

    async fn void(provider: &Guarded) -> Result<(), ProviderError> {
        provider.void(&"pay_1".parse().unwrap()).await
    }

    fn asked(provider: &Scripted) -> usize {
        provider.asked.load(Ordering::SeqCst)
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_a_moment_is_repeated() {
        let (guarded, provider) = guarded(&[Behaviour::IsDown, Behaviour::IsDown, Behaviour::Answers]);
        assert!(void(&guarded).await.is_ok());
        assert_eq!(asked(&provider), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_an_answer() {
        let (guarded, provider) = guarded(&[Behaviour::Refuses]);
        for _ in 0..20 {
            assert!(matches!(void(&guarded).await, Err(ProviderError::Refused(_))));
        }
        assert_eq!(asked(&provider), 20, "asked each time, and not repeated");
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_hangs_has_its_time() {
        let (guarded, _) = guarded(&[Behaviour::Hangs]);
        let began = tokio::time::Instant::now();
        assert!(matches!(void(&guarded).await, Err(ProviderError::Unavailable(_))));
        assert_eq!(began.elapsed(), CallLimits::default().time);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_keeps_failing_is_left_alone_until_it_heals() {
        let limits = CallLimits::default();
        let (guarded, provider) = guarded(&[Behaviour::IsDown]);
        for _ in 0..limits.failures_to_open {
            assert!(void(&guarded).await.is_err());
        }
        let so_far = asked(&provider);
        assert!(void(&guarded).await.is_err());
        assert_eq!(asked(&provider), so_far, "not asked while the breaker is open");

        tokio::time::advance(limits.open_for).await;
        *provider.script.lock().unwrap() = vec![Behaviour::Answers];
        assert!(void(&guarded).await.is_ok());
        assert!(void(&guarded).await.is_ok());
        assert_eq!(asked(&provider), so_far + 2);
    }
}
