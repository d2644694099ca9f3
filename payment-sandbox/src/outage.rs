//! Outages: requests of the merchant that are answered 503 although nothing is wrong.

use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use service::{Problem, ProblemKind};
use sqlx::PgPool;

use crate::State;
use crate::dial::Dial;
use crate::draws::Draws;
use crate::request_count::RequestCount;

/// The fate of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// Refused before anything was done.
    Refused,
    /// Done, and the answer is lost: whoever asks again must not get it twice.
    AnswerLost,
}

impl Fate {
    fn of(dial: &Dial, request_number: u64) -> Self {
        let draws = Draws::new(dial.seed, &[b"request", &request_number.to_be_bytes()]);
        match (draws.happens("outage", dial.outage_rate), draws.happens("done", 0.5)) {
            (false, _) => Self::Answered,
            (true, false) => Self::Refused,
            (true, true) => Self::AnswerLost,
        }
    }
}

/// Stands around the merchant's routes.
pub(crate) async fn break_down(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let fate = match fate_of_next(&state.pool, &state.request_count).await {
        Ok(fate) => fate,
        Err(error) => return Problem::from(error).into_response(),
    };
    let outage =
        || Problem::new(ProblemKind::Unavailable, "the sandbox's dial asks for outages").into_response();
    match fate {
        Fate::Answered => next.run(request).await,
        Fate::Refused => outage(),
        Fate::AnswerLost => {
            next.run(request).await;
            outage()
        }
    }
}

async fn fate_of_next(pool: &PgPool, count: &RequestCount) -> Result<Fate, sqlx::Error> {
    Ok(Fate::of(&Dial::load(pool).await?, count.next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_breaks_the_same_requests_in_both_ways() {
        let dial = Dial { seed: 3, outage_rate: 0.5, ..Dial::default() };
        let fates = |dial: &Dial| (0..1_000).map(|n| Fate::of(dial, n)).collect::<Vec<_>>();
        let first = fates(&dial);
        assert_eq!(first, fates(&dial));
        assert_ne!(first, fates(&Dial { seed: 4, ..dial.clone() }));
        let count = |fate| first.iter().filter(|found| **found == fate).count();
        assert!((200..300).contains(&count(Fate::Refused)), "{}", count(Fate::Refused));
        assert!((200..300).contains(&count(Fate::AnswerLost)), "{}", count(Fate::AnswerLost));
        let none = Dial { outage_rate: 0.0, ..dial };
        assert!(fates(&none).iter().all(|fate| *fate == Fate::Answered));
    }
}
