//! Donations by the real programs, through a provider whose messages are doubled, reordered, lost
//! and forged, while those who take and work on them are killed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::client::{Client, answer};
use crate::ports::free_address;
use crate::program::{Program, replay};
use crate::servers::{fresh_database, redis_url};
use crate::waiting::{PATIENCE, eventually, eventually_within};

/// Where the projectors are among those that are killed.
const PROJECTORS: usize = 2;
/// Donors at once.
const AT_ONCE: usize = 16;
const CAMPAIGNS: usize = 3;
/// Webhooks that were not taken are sent again after up to five minutes; in the end all must be well.
const ALL_IS_KNOWN_WITHIN: Duration = PATIENCE.saturating_mul(4);

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub struct Chaos {
    /// How many donors there are.
    pub donations: usize,
    /// How often one of the two webhook-ingest processes is killed.
    pub kills: usize,
    /// The same seed makes the same choices.
    pub seed: u64,
    /// How long a pledge may stay unpaid before it expires.
    pub pledge_ttl: Duration,
}

/// A kind of donor, by what they do with their pledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Donor {
    Pays,
    PaysAndIsRefunded,
    PaysAndDisputes,
    /// Withdraws as soon as the money is reserved; it may be taken all the same.
    PaysAndCancels,
    Declines,
    /// Looks at the payment page and leaves.
    Leaves,
    /// Never looks at it.
    Forgets,
}

impl Donor {
    fn choose(random: &mut StdRng) -> Self {
        match random.random_range(0..100) {
            0..70 => Self::Pays,
            70..80 => Self::PaysAndIsRefunded,
            80..84 => Self::PaysAndDisputes,
            84..88 => Self::PaysAndCancels,
            88..93 => Self::Declines,
            93..97 => Self::Leaves,
            _ => Self::Forgets,
        }
    }
}

/// Runs it, checks that nothing was lost or doubled, and says what happened.
pub async fn donations_through_a_broken_provider(chaos: Chaos) -> String {
    let system = System::start(chaos).await;
    let started = Instant::now();
    let dial = json!({
        "seed": chaos.seed, "duplicate_rate": 0.2, "reorder_rate": 0.2, "loss_rate": 0.1, "forge_rate": 0.05,
    });
    system.sandbox.client.dial(dial).await;
    let mut campaigns = Vec::new();
    for _ in 0..CAMPAIGNS {
        campaigns.push(system.command.client.campaign().await);
    }
    let done = AtomicUsize::new(0);
    let (pledges, system) = {
        let Clients { command, sandbox } = system.clients();
        let donors = donate(chaos, &campaigns, command, sandbox, &done);
        tokio::join!(donors, system.with_kills(chaos, &done))
    };
    let donated_in = started.elapsed();
    let pool = PgPool::connect(&system.database).await.unwrap();
    let books = system.all_is_known(&pool).await;
    let known_in = started.elapsed();
    assert_nothing_lost_or_doubled(&pool, &books, &pledges).await;
    for command in ["verify", "reconcile"] {
        let (code, said) = system.replay(command).await;
        assert_eq!(code, Some(0), "replay {command}: {said}");
    }
    let asked: i64 = count(&pool, "select count(*) from webhook_inbox where origin = 'poll'").await;
    assert!(asked > 0, "nothing was found by asking");
    pool.close().await;
    system.stop().await;
    let message = |name: &str| books["messages"][name].as_i64().unwrap();
    format!(
        "{} donations in {:.0} s, all known after {:.0} s; {} kills; {} facts: {} messages lost, {} doubled, {} \
         reordered, {} forged; {asked} facts found by asking; books = ledger = totals, verify and reconcile exit 0",
        chaos.donations,
        donated_in.as_secs_f64(),
        known_in.as_secs_f64(),
        chaos.kills,
        message("facts"),
        message("lost"),
        message("duplicated"),
        message("reordered"),
        message("forged"),
    )
}

/// The services, each a process of its own.
struct System {
    database: String,
    redis: String,
    sandbox_url: String,
    command: Program,
    sandbox: Program,
    /// Those that are killed: one that takes webhooks, one that only works on them, and the
    /// projectors.
    victims: Vec<Victim>,
    _folder: tempfile::TempDir,
}

struct Victim {
    service: &'static str,
    listen: String,
    flags: Vec<String>,
    program: Program,
}

struct Clients {
    command: Client,
    sandbox: Client,
}

impl Victim {
    async fn start(service: &'static str, listen: String, flags: &[String]) -> Self {
        let program = start(service, &listen, flags).await;
        Self { service, listen, flags: flags.to_vec(), program }
    }

    async fn kill_and_start_again(self) -> Self {
        self.program.kill().await;
        Self::start(self.service, self.listen, &self.flags).await
    }
}

async fn start(service: &str, listen: &str, flags: &[String]) -> Program {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let program = Program::start(service, listen, &flags).await;
    program.ready().await;
    program
}

impl System {
    async fn start(chaos: Chaos) -> Self {
        let (database, redis) = (fresh_database().await, redis_url().await);
        let folder = tempfile::tempdir().unwrap();
        let [command, sandbox, ingest, worker, projectors] = std::array::from_fn(|_| free_address());
        let flags = |public: &str| -> Vec<String> {
            [
                ("--database-url", database.clone()),
                ("--redis-url", redis.clone()),
                ("--data-dir", folder.path().to_str().unwrap().to_owned()),
                ("--sandbox-url", format!("http://{sandbox}")),
                ("--sandbox-webhook-url", format!("http://{ingest}/webhooks/sandbox")),
                ("--public-url", format!("http://{public}")),
                ("--sandbox-settle-after", "1s".to_owned()),
                ("--reconcile-after", "2s".to_owned()),
                ("--pledge-ttl", format!("{}s", chaos.pledge_ttl.as_secs())),
            ]
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect()
        };
        let of_command = flags(&command);
        let mut victims = Vec::new();
        for (service, listen) in
            [("webhook-ingest", ingest.clone()), ("webhook-ingest", worker), ("projectors", projectors)]
        {
            victims.push(Victim::start(service, listen, &of_command).await);
        }
        Self {
            sandbox_url: format!("http://{sandbox}"),
            command: start("command-api", &command, &of_command).await,
            sandbox: start("payment-sandbox", &sandbox, &flags(&sandbox)).await,
            victims,
            database: database.clone(),
            redis,
            _folder: folder,
        }
    }

    fn clients(&self) -> Clients {
        Clients { command: self.command.client.clone(), sandbox: self.sandbox.client.clone() }
    }

    /// Kills one process after another while donors donate, at counts of donations that follow from the
    /// seed, and a moment later.
    async fn with_kills(mut self, chaos: Chaos, done: &AtomicUsize) -> Self {
        let mut random = StdRng::seed_from_u64(chaos.seed ^ 0xdead);
        let mut moments: Vec<usize> =
            (0..chaos.kills).map(|_| random.random_range(0..chaos.donations)).collect();
        moments.sort_unstable();
        for (n, moment) in moments.into_iter().enumerate() {
            while done.load(Ordering::Relaxed) < moment {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
            // Taking and working in turn, and now and then the projectors too.
            let also = (n % 5 == 4).then_some(PROJECTORS);
            for who in [n % 2].into_iter().chain(also) {
                let victim = self.victims.remove(who).kill_and_start_again().await;
                self.victims.insert(who, victim);
            }
        }
        self
    }

    /// Waits until every message was told, worked on and made up for: the ledger has all that is in
    /// the provider's books, and no pledge is left open. Returns the books.
    async fn all_is_known(&self, pool: &PgPool) -> Value {
        let ask = async || {
            let books = self.sandbox.client.provider_get("/books").await.1;
            (Figures::of_books(&books), Figures::of_ledger(pool).await, open_ends(pool).await, books)
        };
        let told = |books: &Value| {
            let count = |name: &str| books["messages"][name].as_i64().unwrap_or(-1);
            count("facts") == count("sent") + count("lost") && count("unacknowledged") == 0
        };
        let holds = |(of_books, of_ledger, open, books): &(Figures, Figures, Vec<(String, i64)>, Value)| {
            of_books == of_ledger && open.is_empty() && told(books)
        };
        let what = "the ledger has all that the provider's books have, and nothing is open";
        eventually_within(ALL_IS_KNOWN_WITHIN, what, ask, holds).await.3
    }

    async fn replay(&self, command: &str) -> (Option<i32>, String) {
        let mut arguments = vec!["--database-url", &self.database, "--redis-url", &self.redis, command];
        if command == "reconcile" {
            let key = crate::credentials::SANDBOX_API_KEY;
            arguments.extend(["--sandbox-url", &self.sandbox_url, "--sandbox-api-key", key]);
        }
        replay(&arguments).await
    }

    async fn stop(self) {
        for program in
            self.victims.into_iter().map(|victim| victim.program).chain([self.command, self.sandbox])
        {
            assert_eq!(program.interrupt().await, Some(0));
        }
    }
}

/// Money in minor units, by the provider's books or by the read tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    captured: i64,
    /// Refunded, and lost in disputes, of whatever was captured.
    given_back: i64,
    settled: i64,
}

impl Figures {
    fn of_books(books: &Value) -> Self {
        let usd = books["currencies"].as_array().and_then(|all| all.first());
        let figure = |name: &str| usd.and_then(|usd| usd[name].as_i64()).unwrap_or(0);
        Self {
            captured: figure("captured_minor"),
            given_back: figure("refunded_minor") + figure("charged_back_minor"),
            settled: figure("settled_minor"),
        }
    }

    /// Settlements of money held apart leave no trace in the ledger, so that money counts as settled.
    async fn of_ledger(pool: &PgPool) -> Self {
        let (raised, back, held, held_back, settled): (i64, i64, i64, i64, i64) = sqlx::query_as(
            "select sum(raised_minor)::bigint, sum(refunded_minor + charged_back_minor)::bigint,
                 sum(unapplied_minor)::bigint,
                 (select coalesce(sum(given_back_minor), 0)::bigint from unapplied_payments),
                 (select coalesce(sum(captured_minor), 0)::bigint from pledges where status = 'completed')
             from campaign_totals",
        )
        .fetch_one(pool)
        .await
        .unwrap();
        let held_in_all = held + held_back;
        Self {
            captured: raised + back + held_in_all,
            given_back: back + held_back,
            settled: settled + held_in_all,
        }
    }
}

/// Leftovers, of which there must be none in the end, with their counts: messages that wait, need a person
/// or are dead, and pledges that wait for money.
async fn open_ends(pool: &PgPool) -> Vec<(String, i64)> {
    sqlx::query_as(
        "select * from (
             select 'message ' || status || coalesce(': ' || reason, ''), count(*) from webhook_inbox
             where status not in ('processed', 'ignored') group by 1
             union all
             select 'pledge ' || status, count(*) from pledges
             where status in ('pending', 'authorized', 'captured') group by 1
         ) o limit 20",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

async fn count(pool: &PgPool, sql: &str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// One donor's pledge, and the states that it may be in as far as the donor knows.
#[derive(Clone, Copy, Debug)]
struct DonorPledge {
    pledge: Uuid,
    expected: &'static [&'static str],
}

async fn donate(
    chaos: Chaos,
    campaigns: &[Uuid],
    command: Client,
    sandbox: Client,
    done: &AtomicUsize,
) -> Vec<DonorPledge> {
    let places = Semaphore::new(AT_ONCE);
    let mut random = StdRng::seed_from_u64(chaos.seed);
    let donations = (0..chaos.donations).map(|n| {
        let donation = Donation {
            command: &command,
            sandbox: &sandbox,
            campaign: campaigns[random.random_range(0..campaigns.len())],
            minor: random.random_range(100..20_000),
            donor: Donor::choose(&mut random),
            // Some give more than once.
            email: format!("donor-{}@example.org", random.random_range(0..chaos.donations)),
            key: format!("donation-{n}"),
        };
        let places = &places;
        async move {
            let _place = places.acquire().await.unwrap();
            let pledged = donation.make().await;
            done.fetch_add(1, Ordering::Relaxed);
            pledged
        }
    });
    futures_util::future::join_all(donations).await
}

struct Donation<'a> {
    command: &'a Client,
    sandbox: &'a Client,
    campaign: Uuid,
    minor: i64,
    donor: Donor,
    email: String,
    key: String,
}

impl Donation<'_> {
    async fn make(&self) -> DonorPledge {
        let body = Client::pledge_body(self.campaign, self.minor, &self.email);
        // Every request is made twice, as by an impatient donor.
        let (first, again) = tokio::join!(
            self.command.post_pledge(&self.key, &body),
            self.command.post_pledge(&self.key, &body)
        );
        let ((status, first), (_, again)) = (answer(first).await, answer(again).await);
        assert_eq!(
            (status, &first["pledge_id"]),
            (StatusCode::CREATED, &again["pledge_id"]),
            "{first} {again}"
        );
        let pledge: Uuid = first["pledge_id"].as_str().unwrap().parse().unwrap();
        let expected: &[&str] = match self.donor {
            Donor::Forgets => &["expired"],
            Donor::Leaves => {
                self.visit(pledge).await;
                &["expired"]
            }
            Donor::Declines => match self.decide(pledge, "decline").await {
                Some(_) => &["failed"],
                None => &["expired"],
            },
            Donor::Pays => match self.decide(pledge, "approve").await {
                Some(_) => &["completed"],
                None => &["expired"],
            },
            Donor::PaysAndIsRefunded => match self.decide(pledge, "approve").await {
                Some(_) => {
                    self.is_refunded(pledge).await;
                    &["completed"]
                }
                None => &["expired"],
            },
            Donor::PaysAndDisputes => match self.decide(pledge, "approve").await {
                Some(report) => {
                    self.disputes(&report).await;
                    &["completed"]
                }
                None => &["expired"],
            },
            Donor::PaysAndCancels => match self.decide(pledge, "approve").await {
                Some(_) => {
                    self.cancels(pledge).await;
                    &["cancelled", "completed"]
                }
                None => &["expired"],
            },
        };
        DonorPledge { pledge, expected }
    }

    /// Visits the payment page: the provider's session. None when the pledge has expired.
    async fn visit(&self, pledge: Uuid) -> Option<Uuid> {
        let pay = self.command.request(Method::GET, &format!("/pay/{pledge}")).send().await.unwrap();
        let page = pay.headers().get("location")?.to_str().unwrap();
        Some(page.rsplit_once('/').unwrap().1.parse().unwrap())
    }

    /// Does it, and returns the provider's report; none when the session was closed before.
    async fn decide(&self, pledge: Uuid, what: &str) -> Option<Value> {
        let session = self.visit(pledge).await?;
        let (status, report) = self.sandbox.provider_act(&format!("/sessions/{session}/{what}")).await;
        match status {
            StatusCode::OK => Some(report),
            StatusCode::CONFLICT => None,
            status => panic!("{what}: {status} {report}"),
        }
    }

    /// An organiser gives some of it back, as soon as the ledger has it.
    async fn is_refunded(&self, pledge: Uuid) {
        let path = format!("/api/pledges/{pledge}/refunds");
        let amount = json!({"amount_minor": 1 + self.minor / 3, "currency": "USD"});
        let ask = async || {
            let request = self.command.as_organiser(Method::POST, &path).header("idempotency-key", &self.key);
            let response = request.json(&json!({"amount": amount})).send().await.unwrap();
            response.status()
        };
        // 422: nothing is known to be taken yet. 503: the provider is slow to answer.
        let answered = |status: &StatusCode| {
            !matches!(*status, StatusCode::UNPROCESSABLE_ENTITY | StatusCode::SERVICE_UNAVAILABLE)
        };
        let status = eventually(format!("pledge {pledge} can be refunded"), ask, answered).await;
        assert_eq!(status, StatusCode::ACCEPTED);
    }

    async fn disputes(&self, report: &Value) {
        let payment = report["payment_id"].as_str().unwrap();
        let outcome = if self.minor % 2 == 0 { "lost" } else { "won" };
        let path = format!("/payments/{payment}/disputes");
        let ask = async || self.sandbox.provider_post(&path, &json!({"outcome": outcome})).await.0;
        // 422: the provider has not taken it yet.
        let known = |status: &StatusCode| *status != StatusCode::UNPROCESSABLE_ENTITY;
        let what = format!("payment {payment} can be disputed");
        assert_eq!(eventually(what, ask, known).await, StatusCode::CREATED);
    }

    /// Tries to withdraw until the pledge is authorised or it is too late.
    async fn cancels(&self, pledge: Uuid) {
        for _ in 0..50 {
            let path = format!("/api/pledges/{pledge}/cancel");
            let (status, body) =
                answer(self.command.request(Method::POST, &path).send().await.unwrap()).await;
            let is_pending = body["detail"].as_str().is_some_and(|detail| detail.contains("pending"));
            if status == StatusCode::OK || !is_pending {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn assert_nothing_lost_or_doubled(pool: &PgPool, books: &Value, pledges: &[DonorPledge]) {
    assert_eq!(books["messages"]["wrongly_accepted"], 0);
    for kind in ["lost", "duplicated", "reordered", "forged"] {
        assert!(books["messages"][kind].as_i64().unwrap() > 0, "no message was {kind}");
    }
    let made = count(pool, "select count(*) from events where event_type = 'PledgeCreated'").await;
    assert_eq!(usize::try_from(made), Ok(pledges.len()));
    for DonorPledge { pledge, expected } in pledges {
        let status: String = sqlx::query_scalar("select status from pledges where pledge_id = $1")
            .bind(pledge)
            .fetch_one(pool)
            .await
            .unwrap();
        assert!(expected.contains(&status.as_str()), "pledge {pledge} is {status}, expected {expected:?}");
    }
    // Each payment was taken once, and each statement about it recorded once.
    for doubled in [
        "select count(*) from (
             select 1 from events, lateral (select payload -> event_type as f) x
             where event_type in ('PledgeCaptured', 'PaymentUnapplied')
             group by f ->> 'payment_id' having count(*) > 1
         ) d",
        "select count(*) from (
             select 1 from events, lateral (select payload -> event_type as f) x,
                 json_array_elements(f #> '{news,heard}') heard
             group by f ->> 'payment_id', heard::text having count(*) > 1
         ) d",
    ] {
        assert_eq!(count(pool, doubled).await, 0, "{doubled}");
    }
}
