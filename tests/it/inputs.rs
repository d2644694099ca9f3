//! Inputs of one kind are treated alike everywhere. The description of the API says where they are, so no
//! list of routes or fields is kept here.

use careforall_tests::{TestApp, answer, eventually};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Map, Value, json};
use uuid::Uuid;

const STRIPE: [&str; 2] = ["--stripe-api-key=key", "--stripe-webhook-secret=whsec_1"];
const SITE: &str = "https://give.example.org";

/// A route and a method, as the description has it.
struct Operation {
    method: Method,
    path: String,
    described: Value,
}

/// What the parameters of paths name.
struct Places {
    campaign: Uuid,
    pledge: Uuid,
    session: Uuid,
    inbox_id: i64,
}

impl Places {
    /// Things that exist, for requests that are to be understood.
    async fn make(app: &TestApp) -> Self {
        let campaign = app.campaign().await;
        let pledge = app.pledge(campaign, 5000, "ada@example.org").await;
        let mut contradiction =
            careforall_tests::Client::money_webhook("payment.captured", pledge, "pay_1", 5000);
        contradiction["data"]["amount"]["currency"] = json!("EUR");
        assert_eq!(app.webhook("msg_1", &contradiction).await.0, 200);
        let sql = "select inbox_id from webhook_inbox where status = 'review'";
        let find =
            async || -> Option<i64> { sqlx::query_scalar(sql).fetch_optional(&app.pool).await.unwrap() };
        let inbox_id = eventually("a message is in review", find, Option::is_some).await.unwrap();
        let session = app.open_session(Uuid::new_v4(), 5000).await;
        Self { campaign: app.draft().await, pledge, session, inbox_id }
    }

    fn of(&self, path: &str, name: &str) -> String {
        match name {
            "id" if path.starts_with("/api/campaigns/") => self.campaign.to_string(),
            "id" | "pledge_id" => self.pledge.to_string(),
            "session_id" => self.session.to_string(),
            "inbox_id" => self.inbox_id.to_string(),
            _ => "none".to_owned(),
        }
    }
}

async fn described(app: &TestApp) -> (Value, Vec<Operation>) {
    let (_, api) = app.get("/api/openapi.json").await;
    let mut operations = Vec::new();
    for (path, methods) in api["paths"].as_object().unwrap() {
        for (method, described) in methods.as_object().unwrap() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            operations.push(Operation { method, path: path.clone(), described: described.clone() });
        }
    }
    assert!(operations.len() > 45, "{}", operations.len());
    (api, operations)
}

impl Operation {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn parameters(&self, place: &str) -> Vec<(String, bool)> {
        let all = self.described["parameters"].as_array().cloned().unwrap_or_default();
        let here = all.iter().filter(|parameter| parameter["in"] == place);
        here.map(|p| (p["name"].as_str().unwrap().to_lowercase(), p["required"] == true)).collect()
    }

    fn needs(&self, scheme: &str) -> bool {
        self.described["security"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one.get(scheme).is_some()))
    }

    /// The schema of its body.
    fn body(&self) -> Option<&Value> {
        self.described.pointer("/requestBody/content/application~1json/schema")
    }

    /// A request with all that it needs, but for the body.
    fn request(&self, app: &TestApp, places: &Places) -> RequestBuilder {
        let mut path = self.path.clone();
        for (name, _) in self.parameters("path") {
            path = path.replace(&format!("{{{name}}}"), &places.of(&self.path, &name));
        }
        let mut request = match path.strip_prefix("/sandbox") {
            Some(path) if self.needs("sandbox_key") => app.at_provider(self.method.clone(), path),
            _ if self.needs("admin_token") => app.as_organiser(self.method.clone(), &path),
            _ => app.request(self.method.clone(), &path),
        };
        for (name, required) in self.parameters("header") {
            if required {
                request = request.header(&name, Self::header_value(&name));
            }
        }
        request
    }

    fn header_value(name: &str) -> String {
        match name {
            "authorization" => format!("Bearer {}", Uuid::new_v4()),
            _ => Uuid::new_v4().to_string(),
        }
    }
}

async fn assert_problem(response: Response, status: u16, kind: &str, what: &str) {
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json", "{what}");
    let (found, problem) = answer(response).await;
    assert_eq!(
        (found.as_u16(), &problem["type"]),
        (status, &json!(format!("urn:careforall:problem:{kind}"))),
        "{what}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_json_and_where_none_is_due_there_is_none() {
    let app = TestApp::start_with(&STRIPE).await;
    let places = Places::make(&app).await;
    let head = app.head().await;
    let (mut with_body, mut without) = (0, 0);
    for operation in described(&app).await.1 {
        let name = operation.name();
        let request = || operation.request(&app, &places);
        if operation.body().is_none() {
            without += 1;
            for body in ["{}", "x"] {
                let response =
                    request().header(CONTENT_TYPE, "application/json").body(body).send().await.unwrap();
                // A page's form is no JSON either, and of its own type exactly.
                let (status, kind) = if operation.described.get("requestBody").is_some() {
                    (415, "unsupported-media-type")
                } else {
                    (400, "malformed")
                };
                assert_problem(response, status, kind, &name).await;
            }
            if let Some(form) = operation.described.pointer("/requestBody/content") {
                let form = form.as_object().unwrap().keys().next().unwrap();
                for other in
                    [format!("{form}x"), format!("{form}, text/plain"), format!("{form}; charset=utf-16")]
                {
                    let response = request().header(CONTENT_TYPE, &other).body("{").send().await.unwrap();
                    assert_problem(response, 415, "unsupported-media-type", &format!("{name} {other}")).await;
                }
                let in_capitals = request().header(CONTENT_TYPE, form.to_uppercase()).body("x=1");
                assert_ne!(in_capitals.send().await.unwrap().status(), 415, "{name}");
            }
            continue;
        }
        with_body += 1;
        assert!(operation.described["responses"].get("415").is_some(), "{name}");
        assert_problem(request().body("{").send().await.unwrap(), 415, "unsupported-media-type", &name).await;
        for other in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/problem+json",
            "application/jsonx",
            "text/json",
            "application/json; charset=utf-16",
            "application/json, application/json",
        ] {
            let response = request().header(CONTENT_TYPE, other).body("{").send().await.unwrap();
            assert_problem(response, 415, "unsupported-media-type", &format!("{name} {other}")).await;
        }
        for json in
            ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=\"UTF-8\""]
        {
            let response = request().header(CONTENT_TYPE, json).body("{").send().await.unwrap();
            assert!(matches!(response.status().as_u16(), 400 | 401), "{name} {json}: {}", response.status());
        }
    }
    assert!(with_body > 12 && without > 30, "{with_body} {without}");
    assert_eq!(app.head().await, head);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_which_there_is_one_are_not_repeated() {
    let app = TestApp::start_with(&STRIPE).await;
    let places = Places::make(&app).await;
    let head = app.head().await;
    let mut repeated = 0;
    for operation in described(&app).await.1 {
        let mut names: Vec<String> =
            operation.parameters("header").into_iter().map(|(name, _)| name).collect();
        names.extend(["authorization".to_owned(), "content-type".to_owned()]);
        names.sort();
        names.dedup();
        // Of signatures there may be several, in one line or in several.
        for name in names.iter().filter(|name| *name != "webhook-signature") {
            for [first, second] in [["application/json", "application/json"], ["1", "2"]] {
                let mut request = operation.request(&app, &places).build().unwrap();
                if operation.body().is_some() {
                    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                    *request.body_mut() = Some("{}".into());
                }
                let headers = request.headers_mut();
                headers.remove(name);
                for value in [first, second] {
                    headers.append(
                        reqwest::header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                        value.parse().unwrap(),
                    );
                }
                let response = app.http.execute(request).await.unwrap();
                assert_problem(response, 400, "malformed", &format!("{} {name}", operation.name())).await;
                repeated += 1;
            }
        }
    }
    assert!(repeated > 200, "{repeated}");
    assert_eq!(app.head().await, head);
}

/// A value in a body, by the names that lead to it.
struct Leaf {
    way: Vec<String>,
    schema: Value,
}

fn resolved<'a>(api: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return resolved(api, api.pointer(reference.trim_start_matches('#')).unwrap());
    }
    match schema["oneOf"].as_array() {
        Some(choices) if choices.iter().any(|choice| choice["type"] == "null") => {
            resolved(api, choices.iter().find(|choice| choice["type"] != "null").unwrap())
        }
        _ => schema,
    }
}

fn leaves(api: &Value, schema: &Value, way: &[String]) -> Vec<Leaf> {
    let schema = resolved(api, schema);
    let Some(properties) = schema["properties"].as_object() else {
        return vec![Leaf { way: way.to_vec(), schema: schema.clone() }];
    };
    let below = |(name, property): (&String, &Value)| {
        leaves(api, property, &[way, std::slice::from_ref(name)].concat())
    };
    properties.iter().flat_map(below).collect()
}

/// A value that the schema allows, with what it requires and no more.
fn sample(api: &Value, schema: &Value, name: &str, campaign: Uuid) -> Value {
    let schema = resolved(api, schema);
    if let Some(properties) = schema["properties"].as_object() {
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let is_required = |name: &String| required.iter().any(|one| one == name);
        let required = properties.iter().filter(|(name, _)| is_required(name));
        let fields = required.map(|(name, property)| (name.clone(), sample(api, property, name, campaign)));
        return Value::Object(fields.collect::<Map<_, _>>());
    }
    let one_of = [&schema["example"], &schema["enum"][0]].into_iter().find(|value| !value.is_null());
    match (one_of, schema["format"].as_str()) {
        (Some(value), _) => value.clone(),
        (None, Some("uuid")) if name == "campaign_id" => json!(campaign),
        (None, Some("uuid")) => json!(Uuid::new_v4()),
        (None, Some("uri")) => json!("https://give.example.org/thanks"),
        (None, _) => json!("A text"),
    }
}

/// The sample with another value at the end of a way.
fn with(mut body: Value, api: &Value, schema: &Value, way: &[String], value: &str, campaign: Uuid) -> Value {
    let mut place = &mut body;
    let mut schema = resolved(api, schema);
    for name in way {
        let of_name = &schema["properties"][name];
        schema = resolved(api, of_name);
        let fields = place.as_object_mut().unwrap();
        place = fields.entry(name).or_insert_with(|| sample(api, of_name, name, campaign));
    }
    *place = json!(value);
    body
}

fn is_text(leaf: &Leaf) -> bool {
    let kind = &leaf.schema["type"];
    kind == "string" || kind.as_array().is_some_and(|kinds| kinds.contains(&json!("string")))
}

/// A published campaign in the currency of the examples.
async fn campaign_of_the_examples(app: &TestApp) -> Uuid {
    let body = json!({"title": "Wells", "goal": {"amount_minor": 100_000, "currency": "EUR"}});
    let made = app.as_organiser(Method::POST, "/api/campaigns").json(&body).send().await.unwrap();
    let id: Uuid = answer(made).await.1["campaign_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(app.organiser_post(&format!("/api/campaigns/{id}/publish")).await.0, 200);
    id
}

/// The fields that an answer calls unacceptable.
fn refused(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    errors.iter().map(|error| error["field"].as_str().unwrap()).collect()
}

/// All that the database has.
async fn everything(app: &TestApp) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables
         where schemaname not in ('pg_catalog', 'information_schema')",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    let mut all = String::new();
    for table in tables {
        let sql = format!("select coalesce(json_agg(t)::text, '') from {table} t");
        all += &sqlx::query_scalar::<_, String>(&sql).fetch_one(&app.pool).await.unwrap();
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_text_that_a_person_types_is_kept_clean_and_within_its_limit() {
    let app = TestApp::start().await;
    let places = Places::make(&app).await;
    let campaign = campaign_of_the_examples(&app).await;
    let (api, operations) = described(&app).await;
    let mut kept = Vec::new();
    for operation in operations {
        let Some(schema) = operation.body().filter(|schema| schema.get("$ref").is_some()) else { continue };
        for leaf in leaves(&api, schema, &[]).into_iter().filter(is_text) {
            let field = leaf.way.join(".");
            let what = format!("{} {field}", operation.name());
            let has = |name: &str| !leaf.schema[name].is_null();
            if has("format") || has("pattern") || has("enum") {
                continue;
            }
            let max = leaf.schema["maxLength"].as_u64().unwrap_or_else(|| panic!("{what} has no limit"));
            let send = async |text: &str| {
                let body = sample(&api, schema, "", campaign);
                let body = with(body, &api, schema, &leaf.way, text, campaign);
                answer(operation.request(&app, &places).json(&body).send().await.unwrap()).await
            };
            // First, since some things can be done once only.
            let mark = format!("Odd{}", kept.len());
            let (status, problem) = send(&format!("{mark}\u{0}\u{7}\u{202e}\u{feff}\u{2067}e\u{301}.")).await;
            assert!(status.as_u16() < 500 && refused(&problem).is_empty(), "{what}: {problem}");
            kept.push(status.is_success().then(|| format!("{mark}\u{e9}.")));
            let max = usize::try_from(max).unwrap();
            let (status, problem) = send(&"x".repeat(max)).await;
            assert!(status.as_u16() < 500 && refused(&problem).is_empty(), "{what}: {problem}");
            let (status, problem) = send(&"x".repeat(max + 1)).await;
            assert_eq!(
                (status.as_u16(), refused(&problem)),
                (422, vec![field.as_str()]),
                "{what}: {problem}"
            );
            for blank in ["", " \t\n", "\u{0}", "\u{200b}", "\u{202e}", "\u{feff}\u{2067}", "\u{3164}"] {
                let (status, problem) = send(blank).await;
                let is_refused = refused(&problem) == [field.as_str()];
                assert_eq!(is_refused, leaf.schema["minLength"] == 1, "{what} {blank:?}: {problem}");
                assert!(status.as_u16() < 500, "{what} {blank:?}: {problem}");
            }
        }
    }
    let all = everything(&app).await;
    let stored: Vec<String> = kept.into_iter().flatten().collect();
    assert!(stored.len() >= 7, "{stored:?}");
    for text in stored {
        assert!(all.contains(&text), "{text} is not kept");
    }
    for odd in ["\u{202e}", "\u{feff}", "\u{2067}", "\\u0007", "\\u0000", "e\u{301}"] {
        assert!(!all.contains(odd), "{odd:?} is kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_has_a_name_that_can_be_read() {
    let app = TestApp::start().await;
    let places = Places::make(&app).await;
    let mut named = 0;
    for operation in described(&app).await.1 {
        if !operation.parameters("header").iter().any(|(name, _)| name == "x-operator") {
            continue;
        }
        named += 1;
        let name = operation.name();
        for bad in ["x".repeat(101), " ".to_owned(), "\u{200b}".to_owned(), "\u{202e}".to_owned()] {
            let value = HeaderValue::from_bytes(bad.as_bytes()).unwrap();
            let response = operation.request(&app, &places).header("x-operator", value).send().await.unwrap();
            let (status, problem) = answer(response).await;
            let detail = problem["detail"].as_str().unwrap_or_default();
            assert!(status == 400 && detail.contains("x-operator"), "{name} {bad:?}: {status} {problem}");
        }
    }
    assert!(named >= 3, "{named}");
}

/// Money that goes back may be as little as it likes; `refunds` ends the paths of those routes.
#[tokio::test(flavor = "multi_thread")]
async fn an_amount_that_cannot_be_paid_is_refused_wherever_one_is_pledged() {
    let app = TestApp::start_with(&["--min-pledge=EUR:200"]).await;
    let places = Places::make(&app).await;
    let campaign = campaign_of_the_examples(&app).await;
    let (api, operations) = described(&app).await;
    let mut pledged = 0;
    for operation in operations {
        let Some(schema) = operation.body().filter(|schema| schema.get("$ref").is_some()) else { continue };
        let mut body = sample(&api, schema, "", campaign);
        let is_pledge = operation.path.starts_with("/api/pledges") && !operation.path.ends_with("/refunds");
        if !is_pledge || body.get("amount").is_none() {
            continue;
        }
        pledged += 1;
        for (amount_minor, expected) in [(199, vec!["amount.amount_minor"]), (200, vec![])] {
            body["amount"] = json!({"amount_minor": amount_minor, "currency": "EUR"});
            let response = operation.request(&app, &places).json(&body).send().await.unwrap();
            let (_, problem) = answer(response).await;
            let mut fields = refused(&problem);
            // The pledge of the path is in another currency.
            fields.retain(|field| *field != "amount.currency");
            assert_eq!(fields, expected, "{} {amount_minor}: {problem}", operation.name());
            assert!(expected.is_empty() || problem["errors"][0]["possible"]["least"] == 200, "{problem}");
        }
    }
    assert_eq!(pledged, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_address_is_bare_and_has_one_form() {
    let app = TestApp::start().await;
    let places = Places::make(&app).await;
    let campaign = campaign_of_the_examples(&app).await;
    let (api, operations) = described(&app).await;
    let mut addresses = 0;
    for operation in operations {
        let Some(schema) = operation.body() else { continue };
        for leaf in leaves(&api, schema, &[]).iter().filter(|leaf| leaf.schema["format"] == "email") {
            let field = leaf.way.join(".");
            addresses += 1;
            for bad in [
                "",
                "nobody",
                "Donor One <donor1@example.org>",
                "Donor\r\nBcc: all@example.org <donor1@example.org>",
                "Donor\u{0} <donor1@example.org>",
                "donor1@example.org\u{0}",
                "donor1\u{0}@example.org",
                "donor1@exam\u{0}ple.org",
                "donor1@example.org\r\nBcc: all@example.org",
                "donor1\u{202e}@example.org",
                "\"donor 1\"@example.org",
                "donor1@example.org (Donor)",
                "donor1@example.org, donor2@example.org",
                "donor1@[127.0.0.1]",
            ] {
                let body = sample(&api, schema, "", campaign);
                let body = with(body, &api, schema, &leaf.way, bad, campaign);
                let request = operation.request(&app, &places).json(&body);
                let (status, problem) = answer(request.send().await.unwrap()).await;
                assert_eq!(
                    (status.as_u16(), refused(&problem)),
                    (422, vec![field.as_str()]),
                    "{bad:?}: {problem}"
                );
            }
            for same in ["x@b\u{fc}cher.example", "x@xn--bcher-kva.example", " X@BU\u{308}CHER.example"] {
                let body = sample(&api, schema, "", campaign);
                let body = with(body, &api, schema, &leaf.way, same, campaign);
                let (status, answer) =
                    answer(operation.request(&app, &places).json(&body).send().await.unwrap()).await;
                assert!(status.is_success(), "{same}: {answer}");
            }
        }
    }
    assert_eq!(addresses, 1, "of donors");
    let (rows, donors): (i64, i64) = sqlx::query_as(
        "select count(*), count(distinct donor_id) from pledge_donors
         where email = 'x@xn--bcher-kva.example'",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert_eq!((rows, donors), (3, 1));
}

/// Whether pages of other sites may ask for it: what everybody may read, and the way of a pledge to its
/// payment.
fn is_open(operation: &Operation) -> bool {
    let is_public = operation.described["security"].is_null() && !operation.path.starts_with("/sandbox/");
    let takes_credentials = operation.parameters("header").iter().any(|(name, _)| name == "authorization");
    match operation.method.as_str() {
        "GET" => is_public && !takes_credentials,
        "POST" => operation.path == "/api/pledges",
        "PUT" => operation.path == "/api/pledges/{id}",
        _ => false,
    }
}

/// The headers by which an answer is shown to other sites, and whether caches are told that it depends on
/// the asking one.
fn shown(headers: &HeaderMap) -> (Vec<(String, String)>, bool) {
    let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
    let of_cors = headers.iter().filter(|(name, _)| name.as_str().starts_with("access-control-"));
    let varies = headers.get_all("vary").iter().any(|value| text(value).eq_ignore_ascii_case("origin"));
    (of_cors.map(|(name, value)| (name.to_string(), text(value))).collect(), varies)
}

async fn preflight(operation: &Operation, app: &TestApp, places: &Places, origin: &str) -> Response {
    let asked = operation.request(app, places).build().unwrap();
    let request = app.http.request(Method::OPTIONS, asked.url().clone()).header("origin", origin);
    let request = request.header("access-control-request-method", operation.method.as_str());
    request.header("access-control-request-headers", "content-type,idempotency-key").send().await.unwrap()
}

/// Asks for an operation as a page of a site does, or nobody's.
async fn ask(operation: &Operation, app: &TestApp, places: &Places, origin: Option<&str>) -> Response {
    let mut request = operation.request(app, places);
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    if operation.body().is_some() {
        request = request.json(&json!({}));
    }
    request.send().await.unwrap()
}

/// Expects that pages of an allowed site may use an operation, and know how.
async fn assert_open_to(site: &str, operation: &Operation, app: &TestApp, places: &Places) {
    let name = operation.name();
    let (shown_to, varies) = shown(ask(operation, app, places, Some(site)).await.headers());
    assert_eq!((shown_to.len(), varies), (2, true), "{name} {shown_to:?}");
    let of = |headers: &[(String, String)], wanted: &str| {
        headers.iter().find(|(name, _)| name.ends_with(wanted)).expect(wanted).1.clone()
    };
    assert_eq!(of(&shown_to, "allow-origin"), site);
    assert!(of(&shown_to, "expose-headers").contains("etag"), "{name}");

    let response = preflight(operation, app, places, site).await;
    let (headers, varies) = shown(response.headers());
    assert_eq!((response.status().as_u16(), varies, headers.len()), (204, true, 4), "{name}");
    assert_eq!(of(&headers, "allow-origin"), site);
    assert!(of(&headers, "allow-methods").split(", ").any(|one| one == operation.method.as_str()), "{name}");
    let may_send = of(&headers, "allow-headers");
    assert!(["content-type", "idempotency-key"].iter().all(|one| may_send.contains(one)), "{may_send}");
    assert!(!may_send.contains("authorization"), "{may_send}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_sites_may_read_and_pledge_and_nothing_else() {
    let app =
        TestApp::start_with(&["--allowed-origins=https://give.example.org,http://127.0.0.1:3000"]).await;
    let places = Places { campaign: app.campaign().await, ..Places::make(&app).await };
    let mut open = 0;
    for operation in described(&app).await.1 {
        let is_open = is_open(&operation);
        open += usize::from(is_open);
        for origin in [
            None,
            Some(SITE),
            Some("http://127.0.0.1:3000"),
            Some("https://give.example.org.evil.example"),
            Some("http://give.example.org"),
            Some("https://give.example.org:8443"),
            Some("https://GIVE.example.org"),
            Some("null"),
            Some(""),
        ] {
            if let Some(site @ (SITE | "http://127.0.0.1:3000")) = origin.filter(|_| is_open) {
                assert_open_to(site, &operation, &app, &places).await;
                continue;
            }
            let what = format!("{} {origin:?}", operation.name());
            let response = ask(&operation, &app, &places, origin).await;
            assert_eq!(shown(response.headers()), (vec![], is_open), "{what}");
            if let Some(origin) = origin {
                let response = preflight(&operation, &app, &places, origin).await;
                assert_eq!(
                    (response.status().as_u16(), shown(response.headers()).0),
                    (405, vec![]),
                    "{what}"
                );
            }
        }
    }
    assert_eq!(open, 10);
    for path in ["/healthz", "/readyz", "/metrics", "/projectors", "/api/nothing", "/nowhere"] {
        let response = app.request(Method::GET, path).header("origin", SITE).send().await.unwrap();
        assert_eq!(shown(response.headers()), (vec![], false), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_site_is_allowed_there_is_no_sign_of_it() {
    let app = TestApp::start().await;
    let places = Places::make(&app).await;
    for operation in described(&app).await.1 {
        let response = operation.request(&app, &places).header("origin", SITE).send().await.unwrap();
        assert_eq!(shown(response.headers()), (vec![], false), "{}", operation.name());
        let response = preflight(&operation, &app, &places, SITE).await;
        let found = (response.status().as_u16(), shown(response.headers()));
        assert_eq!(found, (405, (vec![], false)), "{}", operation.name());
    }
}
