//! Corrections: a person states how an object of a payment stands, where its provider's messages do not
//! settle it or are wrong.
//!
//! A correction is a command to the pledge, with the name that the operator gives. Its reason stands in the
//! table `corrections`, and only its hash in the ledger. One that moves more than a limit waits until a
//! second person confirms it.

use axum::Extension;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use domain::payment::{ObjectKey, Stated, Statement, WrittenStanding};
use domain::pledge::{CaptureLimit, Correcting, CorrectionNote};
use domain::{AmountsByCurrency, MoneyMove, PaymentFact, PaymentId, Pledge, PledgeCommand, Rules, Text};
use event_store::{ExecuteError, Ledger, LoadError, Metadata, pledge_of_payment};
use payments::{Notice, ProviderError, Providers};
use serde::{Deserialize, Serialize};
use service::auth::Organiser;
use service::{FieldErrors, Json, NoBody, Path, Problem, ProblemKind, RequestId};
use sha2::{Digest, Sha256};
use sqlx::{FromRow, PgPool};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::State;
use crate::inbox::Origin;
use crate::operator::Operator;
use crate::polled;

/// Messages of one payment that are read again to find out what its provider said.
const MAX_WAITING: i64 = 200;
/// Messages that one correction settles.
const MAX_ANSWERS: usize = 100;

/// What corrections need beside the inbox.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) ledger: Ledger,
    pub(crate) limit: CaptureLimit,
    /// A correction that moves more than this needs a second person; none needs one where nothing is set.
    pub(crate) four_eyes_above: Option<AmountsByCurrency>,
}

pub(crate) fn router() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(correct, list_corrections))
        .routes(routes!(confirm))
        .routes(routes!(withdraw))
}

/// An object of a payment: the payment itself, or the one of its refunds, disputes and reversals that is
/// named.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ObjectInput {
    /// The provider's payment.
    #[schema(pattern = "^[!-~]{1,200}$", example = "pay_1")]
    payment_id: String,
    /// One of its refunds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[!-~]{1,200}$")]
    refund_id: Option<String>,
    /// One of its disputes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[!-~]{1,200}$")]
    dispute_id: Option<String>,
    /// One of its reversals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[!-~]{1,200}$")]
    reversal_id: Option<String>,
}

/// What is stated.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CorrectionInput {
    object: ObjectInput,
    /// How it stands: a state, and the amount that goes with it. Of a payment `open`, `failed` or `cancelled`
    /// with what was captured so far; of a refund `asked`, `succeeded`, `failed` or `cancelled`; of a dispute
    /// `inquiry`, `opened`, `lost`, `won` or `reinstated`; of a reversal `gone` or `cancelled`.
    stands: WrittenStanding,
    /// Since when; without it, it always stood so.
    happened_at: Option<DateTime<Utc>>,
    /// How it stands in the ledger as far as you have seen. If that has changed, the answer is 409.
    counts: Option<WrittenStanding>,
    /// Messages in review that this settles: their numbers in the inbox.
    #[serde(default)]
    #[schema(max_items = 100)]
    answers: Vec<i64>,
    /// Why, at most 500 characters.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
    /// What shows it, such as a statement of the provider: at most 2,000 characters.
    #[schema(max_length = 2000)]
    evidence: Option<String>,
}

/// A correction.
#[derive(Debug, Serialize, FromRow, ToSchema)]
struct CorrectionReply {
    correction_id: Uuid,
    pledge_id: Uuid,
    payment_id: String,
    /// The object, and how it stands.
    #[schema(value_type = Object)]
    stated: serde_json::Value,
    /// The messages that it settles.
    answers: Vec<i64>,
    reason: String,
    evidence: Option<String>,
    /// SHA-256 of the reason and the evidence, as the event names it.
    text_sha256: String,
    /// The header `x-operator` of the request, `admin` without one.
    asked_by: String,
    asked_at: DateTime<Utc>,
    /// `proposed`: a second person has to confirm it; `recorded` or `withdrawn`.
    status: String,
    /// Who confirmed or withdrew it.
    ended_by: Option<String>,
    ended_at: Option<DateTime<Utc>>,
    /// Where the ledger says so.
    position: Option<i64>,
}

/// What was stated, as it is kept until it is recorded.
#[derive(Debug, Deserialize, Serialize)]
struct Kept {
    object: ObjectKey,
    stands: WrittenStanding,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    happened_at: Option<DateTime<Utc>>,
    /// How it stood as its corrector had seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counts: Option<WrittenStanding>,
}

/// State how an object of a payment stands
///
/// For operators. It is the ground on which the object begins anew: what its provider had said before is old
/// news, whenever it is heard, and the first new content that stands later counts again. 201 says that it is
/// in the ledger, 202 that a second person has to confirm it. The names of both are only claimed.
#[utoipa::path(
    post, path = "/api/corrections", tag = "webhooks", security(("admin_token" = [])),
    params(("x-operator" = Option<String>, Header, description = "Who decides, at most 100 characters")),
    request_body = CorrectionInput,
    responses(
        (status = 201, body = CorrectionReply), (status = 202, body = CorrectionReply), (status = 404),
        (status = 409, description = "The object stands otherwise by now"), (status = 422),
    ),
)]
async fn correct(
    _: Organiser,
    Shared(state): Shared<State>,
    Operator(operator): Operator,
    Extension(request_id): Extension<RequestId>,
    Json(input): Json<CorrectionInput>,
) -> Result<Response, Problem> {
    let checked = Checked::of(input)?;
    let pledge_id = pledge_of_payment(&state.pool, checked.payment_id.as_str()).await?;
    let pledge_id = pledge_id
        .ok_or_else(|| Problem::new(ProblemKind::NotFound, "no pledge has heard of this payment"))?;
    let correction_id = Uuid::now_v7();
    let correcting = checked.correcting(&state, pledge_id, correction_id).await?;
    let loaded = state.desk.ledger.load::<Pledge>(pledge_id).await.map_err(load_problem)?;
    checked.require_as_seen(&loaded.aggregate)?;
    let events = loaded
        .aggregate
        .decide(&PledgeCommand::Correct(Box::new(correcting.clone())))
        .map_err(|rule| Problem::new(ProblemKind::RuleBroken, rule))?;
    let moves: Vec<MoneyMove> = events.iter().flat_map(|event| event.money_moves()).copied().collect();
    checked.keep(&state.pool, pledge_id, correction_id, operator.as_str()).await?;
    if needs_second(state.desk.four_eyes_above.as_ref(), &moves) {
        return Ok((StatusCode::ACCEPTED, Json(shown(&state.pool, correction_id).await?)).into_response());
    }
    record(&state, pledge_id, correcting, operator.as_str(), request_id).await?;
    Ok((StatusCode::CREATED, Json(shown(&state.pool, correction_id).await?)).into_response())
}

/// The corrections that wait for a second person.
#[derive(Debug, Serialize, ToSchema)]
struct CorrectionsReply {
    /// Newest first, at most 100.
    items: Vec<CorrectionReply>,
}

/// List corrections that wait for a second person
///
/// For operators.
#[utoipa::path(
    get, path = "/api/corrections", tag = "webhooks", security(("admin_token" = [])),
    responses((status = 200, body = CorrectionsReply)),
)]
async fn list_corrections(
    _: Organiser,
    Shared(pool): Shared<PgPool>,
) -> Result<Json<CorrectionsReply>, Problem> {
    let items = sqlx::query_as(
        "select * from corrections where status = 'proposed' order by asked_at desc limit 100",
    )
    .fetch_all(&pool)
    .await?;
    Ok(Json(CorrectionsReply { items }))
}

/// Confirm a correction
///
/// For operators: another one than the one who asked for it. Confirming it again gets the same answer.
#[utoipa::path(
    post, path = "/api/corrections/{correction_id}/confirm", tag = "webhooks", security(("admin_token" = [])),
    params(
        ("correction_id" = Uuid, Path),
        ("x-operator" = Option<String>, Header, description = "Who decides, at most 100 characters"),
    ),
    responses((status = 200, body = CorrectionReply), (status = 404), (status = 409), (status = 422)),
)]
async fn confirm(
    _: Organiser,
    Shared(state): Shared<State>,
    Operator(operator): Operator,
    Extension(request_id): Extension<RequestId>,
    Path(correction_id): Path<Uuid>,
    _: NoBody,
) -> Result<Json<CorrectionReply>, Problem> {
    let asked = shown(&state.pool, correction_id).await?;
    match asked.status.as_str() {
        "proposed" => {}
        "recorded" => return Ok(Json(asked)),
        _ => return Err(Problem::new(ProblemKind::Conflict, "the correction was withdrawn")),
    }
    if asked.asked_by == operator.as_str() {
        let same = "a correction is confirmed by another person than the one who asked for it";
        return Err(Problem::new(ProblemKind::RuleBroken, same));
    }
    let checked = Checked::of_kept(&asked)?;
    let correcting = checked.correcting(&state, asked.pledge_id, correction_id).await?;
    let loaded = state.desk.ledger.load::<Pledge>(asked.pledge_id).await.map_err(load_problem)?;
    checked.require_as_seen(&loaded.aggregate)?;
    record(&state, asked.pledge_id, correcting, operator.as_str(), request_id).await?;
    Ok(Json(shown(&state.pool, correction_id).await?))
}

/// Withdraw a correction that waits for a second person
///
/// For operators.
#[utoipa::path(
    post, path = "/api/corrections/{correction_id}/withdraw", tag = "webhooks",
    security(("admin_token" = [])),
    params(
        ("correction_id" = Uuid, Path),
        ("x-operator" = Option<String>, Header, description = "Who decides, at most 100 characters"),
    ),
    responses((status = 200, body = CorrectionReply), (status = 404), (status = 409)),
)]
async fn withdraw(
    _: Organiser,
    Shared(pool): Shared<PgPool>,
    Operator(operator): Operator,
    Path(correction_id): Path<Uuid>,
    _: NoBody,
) -> Result<Json<CorrectionReply>, Problem> {
    sqlx::query(
        "update corrections set status = 'withdrawn', ended_by = $2, ended_at = now()
         where correction_id = $1 and status = 'proposed'",
    )
    .bind(correction_id)
    .bind(operator.as_str())
    .execute(&pool)
    .await?;
    let shown = shown(&pool, correction_id).await?;
    if shown.status == "withdrawn" {
        Ok(Json(shown))
    } else {
        Err(Problem::new(ProblemKind::Conflict, "the correction is recorded already"))
    }
}

async fn shown(pool: &PgPool, correction_id: Uuid) -> Result<CorrectionReply, Problem> {
    let row = sqlx::query_as("select * from corrections where correction_id = $1")
        .bind(correction_id)
        .fetch_optional(pool)
        .await?;
    row.ok_or_else(|| Problem::new(ProblemKind::NotFound, "there is no such correction"))
}

/// A correction whose fields make sense.
struct Checked {
    payment_id: PaymentId,
    kept: Kept,
    stated: Stated,
    counts: Option<Stated>,
    answers: Vec<i64>,
    reason: Text<500>,
    evidence: Option<Text<2000>>,
}

impl Checked {
    fn of(input: CorrectionInput) -> Result<Self, Problem> {
        let mut errors = FieldErrors::default();
        let CorrectionInput { object, stands, happened_at, counts, answers, reason, evidence } = input;
        let payment_id = errors.take("object.payment_id", object.payment_id.parse::<PaymentId>());
        let object = object.key(&mut errors);
        let reason = errors.take("reason", reason.parse());
        let evidence = errors.take("evidence", Text::optional(evidence));
        if answers.len() > MAX_ANSWERS {
            errors.add("answers", format!("must be at most {MAX_ANSWERS}"));
        }
        if happened_at.is_some_and(|at| at > Utc::now()) {
            errors.add("happened_at", "must not be in the future");
        }
        let stated = object.clone().and_then(|object| errors.take("stands", stands.clone().of(object)));
        let seen = object.clone().zip(counts.clone());
        let seen = seen.map(|(object, counts)| errors.take("counts", counts.of(object)));
        let fields = (payment_id, object, stated, reason, evidence);
        match fields {
            (Some(payment_id), Some(object), Some(stated), Some(reason), Some(evidence))
                if seen.as_ref().is_none_or(Option::is_some) =>
            {
                let kept = Kept { object, stands, happened_at, counts };
                Ok(Self { payment_id, kept, stated, counts: seen.flatten(), answers, reason, evidence })
            }
            _ => Err(errors.problem()),
        }
    }

    /// What was asked for and waits.
    fn of_kept(asked: &CorrectionReply) -> Result<Self, Problem> {
        let kept: Kept = serde_json::from_value(asked.stated.clone()).map_err(Problem::internal)?;
        let stated = kept.stands.clone().of(kept.object.clone()).map_err(Problem::internal)?;
        let counts = kept.counts.clone().map(|counts| counts.of(kept.object.clone()));
        let counts = counts.transpose().map_err(Problem::internal)?;
        Ok(Self {
            payment_id: asked.payment_id.parse().map_err(Problem::internal)?,
            kept,
            stated,
            counts,
            answers: asked.answers.clone(),
            reason: asked.reason.parse().map_err(Problem::internal)?,
            evidence: Text::optional(asked.evidence.clone()).map_err(Problem::internal)?,
        })
    }

    fn text_sha256(&self) -> String {
        let evidence = self.evidence.as_ref().map(Text::as_str).unwrap_or_default();
        format!("{:x}", Sha256::digest(format!("{}\n{evidence}", self.reason.as_str())))
    }

    /// The command. What its provider has said and is not in the ledger counts as heard: what waits in the
    /// inbox, and what it answers now.
    async fn correcting(
        &self,
        state: &State,
        pledge_id: Uuid,
        correction_id: Uuid,
    ) -> Result<Correcting, Problem> {
        let made_at = Utc::now();
        let mut unrecorded = self.waiting(&state.pool, &state.providers, pledge_id).await?;
        if let Ok(provider) = state.providers.of_payment(&self.payment_id) {
            match provider.look_up(&self.payment_id).await {
                Ok(Some(report)) => unrecorded.extend(statements(report.facts, &self.payment_id, made_at)),
                Ok(None) | Err(ProviderError::Refused(_)) => {}
                Err(error @ ProviderError::Unavailable(_)) => {
                    return Err(Problem::unavailable("the payment provider", error));
                }
            }
        }
        Ok(Correcting {
            payment_id: self.payment_id.clone(),
            stated: self.stated.clone(),
            made_at,
            happened_at: self.kept.happened_at,
            unrecorded,
            note: CorrectionNote { correction_id, text_sha256: self.text_sha256() },
            limit: state.desk.limit,
        })
    }

    /// What its provider said and is in no pledge yet.
    async fn waiting(
        &self,
        pool: &PgPool,
        providers: &Providers,
        pledge_id: Uuid,
    ) -> Result<Vec<Statement>, Problem> {
        let rows: Vec<(String, Origin, String)> = sqlx::query_as(
            "select provider, origin, body from webhook_inbox
         where (pledge_id = $1 or inbox_id = any ($3))
                 and status in ('pending', 'review', 'dead', 'discarded')
         order by inbox_id desc limit $2",
        )
        .bind(pledge_id)
        .bind(MAX_WAITING)
        .bind(&self.answers)
        .fetch_all(pool)
        .await?;
        let now = Utc::now();
        let said = rows.into_iter().filter_map(|(provider, origin, body)| match origin {
            Origin::Poll => polled::parse(&body).ok().map(|(_, fact)| vec![fact]),
            Origin::Webhook => match providers.named(&provider)?.parse(body.as_bytes()).ok()? {
                Notice::Facts { facts, .. } | Notice::Unaddressed { facts, .. } => Some(facts),
                Notice::Payout { .. } | Notice::Ignored => None,
            },
        });
        Ok(said.flat_map(|facts| statements(facts, &self.payment_id, now)).collect())
    }

    /// 409 if the object stands otherwise than its corrector has seen.
    fn require_as_seen(&self, pledge: &Pledge) -> Result<(), Problem> {
        let Some(seen) = &self.counts else { return Ok(()) };
        let payment = pledge.record().and_then(|record| record.payments.get(&self.payment_id));
        let counts = payment.and_then(|payment| payment.history.counts(seen.object()));
        if counts == Some(seen.content()) {
            return Ok(());
        }
        let counts = counts.map_or("nothing is known of it".to_owned(), |counts| counts.to_string());
        Err(Problem::new(ProblemKind::Conflict, format!("by now it stands otherwise: {counts}")))
    }

    async fn keep(
        &self,
        pool: &PgPool,
        pledge_id: Uuid,
        correction_id: Uuid,
        operator: &str,
    ) -> Result<(), Problem> {
        sqlx::query(
            "insert into corrections (correction_id, pledge_id, payment_id, stated, answers, reason, evidence,
                 text_sha256, asked_by)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(correction_id)
        .bind(pledge_id)
        .bind(self.payment_id.as_str())
        .bind(serde_json::to_value(&self.kept).map_err(Problem::internal)?)
        .bind(&self.answers)
        .bind(self.reason.as_str())
        .bind(self.evidence.as_ref().map(Text::as_str))
        .bind(self.text_sha256())
        .bind(operator)
        .execute(pool)
        .await?;
        Ok(())
    }
}

impl ObjectInput {
    fn key(&self, errors: &mut FieldErrors) -> Option<ObjectKey> {
        match (&self.refund_id, &self.dispute_id, &self.reversal_id) {
            (None, None, None) => Some(ObjectKey::Payment),
            (Some(id), None, None) => errors.take("object.refund_id", id.parse()).map(ObjectKey::Refund),
            (None, Some(id), None) => errors.take("object.dispute_id", id.parse()).map(ObjectKey::Dispute),
            (None, None, Some(id)) => errors.take("object.reversal_id", id.parse()).map(ObjectKey::Reversal),
            _ => {
                errors.add("object", "must name one refund, dispute or reversal at most");
                None
            }
        }
    }
}

fn statements(facts: Vec<PaymentFact>, payment_id: &PaymentId, now: DateTime<Utc>) -> Vec<Statement> {
    let about_it = facts.into_iter().filter(|fact| fact.payment_id == *payment_id);
    about_it.filter_map(|fact| fact.answered_at(now).statement().cloned()).collect()
}

/// Whether the sum of absolute changes of any currency is above its limit. A currency that is not listed
/// always needs a second person.
fn needs_second(limits: Option<&AmountsByCurrency>, moves: &[MoneyMove]) -> bool {
    let Some(limits) = limits else { return false };
    let changes = |moved: &MoneyMove| {
        let figures = [
            moved.captured_minor,
            moved.refunded_minor,
            moved.reversed_minor,
            moved.charged_back_minor,
            moved.loss_minor,
            moved.in_dispute_minor,
            moved.unapplied_minor,
        ];
        figures.into_iter().map(i64::unsigned_abs).fold(0, u64::saturating_add)
    };
    moves.iter().any(|moved| {
        let of_currency = moves.iter().filter(|other| other.currency == moved.currency);
        let sum = of_currency.map(changes).fold(0, u64::saturating_add);
        sum > 0 && limits.of(moved.currency).is_none_or(|limit| sum > limit.unsigned_abs())
    })
}

/// Writes it into the ledger, and closes the messages that it settles.
async fn record(
    state: &State,
    pledge_id: Uuid,
    correcting: Correcting,
    operator: &str,
    request_id: RequestId,
) -> Result<(), Problem> {
    let correction_id = correcting.note.correction_id;
    let metadata =
        Metadata { actor: Some(operator.to_owned()), request_id: Some(request_id.0), ..Metadata::default() };
    // Who withdraws it, or confirms it too, waits until it is done.
    let mut transaction = state.pool.begin().await?;
    let status: Option<String> =
        sqlx::query_scalar("select status from corrections where correction_id = $1 for update")
            .bind(correction_id)
            .fetch_optional(&mut *transaction)
            .await?;
    match status.as_deref() {
        Some("proposed") => {}
        Some("recorded") => return Ok(()),
        _ => return Err(Problem::new(ProblemKind::Conflict, "the correction was withdrawn")),
    }
    let command = PledgeCommand::Correct(Box::new(correcting));
    let executed =
        state.desk.ledger.execute::<Pledge>(pledge_id, &command, &metadata).await.map_err(execute_problem)?;
    let position = executed.position;
    tracing::info!(%pledge_id, %correction_id, operator, position, "a payment was corrected");
    sqlx::query(
        "with recorded as (
             update corrections
             set status = 'recorded', position = $2, ended_by = $3, ended_at = now()
             where correction_id = $1
             returning answers
         ), settled as (
             update webhook_inbox w
             set status = 'discarded', finished_at = now(), reason = 'settled by correction ' || $1::text
             from recorded r
             where w.inbox_id = any (r.answers) and w.status in ('review', 'dead')
             returning w.inbox_id
         )
         insert into webhook_inbox_acts (inbox_id, act, reason, acted_by)
         select inbox_id, 'correct', 'settled by correction ' || $1::text, $3 from settled",
    )
    .bind(correction_id)
    .bind(position)
    .bind(operator)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

fn load_problem(error: LoadError) -> Problem {
    match error {
        LoadError::Decode(_) => Problem::internal(error),
        LoadError::Database(_) => Problem::unavailable("the ledger", error),
    }
}

fn execute_problem(error: ExecuteError<domain::PledgeError>) -> Problem {
    match error {
        ExecuteError::Rule(rule) => Problem::new(ProblemKind::RuleBroken, rule),
        ExecuteError::Append(error) => Problem::unavailable("the ledger", error),
        ExecuteError::Load(error) => load_problem(error),
    }
}
