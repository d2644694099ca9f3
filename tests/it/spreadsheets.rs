//! Exports as a spreadsheet opens them: LibreOffice, which runs without a screen.

use std::path::{Path, PathBuf};
use std::process::Command;

use careforall_tests::{Client, TestApp, answer, replay};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::architecture::root;

/// Texts of donors that would be formulas, at the start or behind what may separate cells.
const ARMED: [&str; 10] = [
    "=1+1",
    "thanks;=1+1",
    "a;@SUM(1+1)",
    "\t=1+1",
    "a\t+1+1",
    "a|-1+1",
    "two lines\n=1+1",
    "a;\"=1+1\"",
    "a; =1+1",
    "=HYPERLINK(\"http://evil.example\";\"x\")",
];

/// Separators, as LibreOffice numbers them: comma, semicolon, tab, bar, blank and colon.
const SEPARATORS: [u32; 6] = [44, 59, 9, 124, 32, 58];

/// Has LibreOffice open files with a separator and save them in another form below `out`. Formulas are run
/// where there are any, which a person would be asked about.
fn convert(files: &[PathBuf], separator: u32, quoted_is_text: bool, form: &str, out: &Path) {
    let profile = format!("-env:UserInstallation=file://{}", out.join("profile").display());
    let options = format!("{separator},34,76,1,,1033,{quoted_is_text},false,false,false,false,-1,true");
    let filter = format!("--infilter=CSV:{options}");
    let output = Command::new("soffice")
        .args([&profile, "--headless", "--convert-to", form, &filter, "--outdir"])
        .arg(out)
        .args(files)
        .output()
        .expect("LibreOffice is needed; scripts/install-services.sh --test soffice installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The formulas in a file, opened with a separator.
fn formulas(files: &[PathBuf], separator: u32) -> Vec<String> {
    let out = tempfile::tempdir().unwrap();
    convert(files, separator, false, "fods", out.path());
    let mut found = Vec::new();
    for file in files {
        let name = file.with_extension("fods");
        let sheet = std::fs::read_to_string(out.path().join(name.file_name().unwrap())).unwrap();
        assert!(sheet.contains("<table:table-cell"), "{}", file.display());
        found.extend(sheet.split("table:formula=").skip(1).map(|rest| rest.chars().take(60).collect()));
    }
    found
}

/// Gifts and campaigns whose every text is armed, and the files that tell of them.
async fn exported(app: &TestApp, folder: &Path) -> Vec<PathBuf> {
    for (n, text) in ARMED.iter().enumerate() {
        let goal = json!({"amount_minor": 100_000, "currency": "USD"});
        let body = json!({"title": text, "description": text, "goal": goal});
        let made = app.as_organiser(Method::POST, "/api/campaigns").json(&body).send().await.unwrap();
        let campaign: Uuid = answer(made).await.1["campaign_id"].as_str().unwrap().parse().unwrap();
        assert_eq!(app.organiser_post(&format!("/api/campaigns/{campaign}/publish")).await.0, 200);
        let mut body = Client::pledge_body(campaign, 5000, "eve@example.org");
        (body["message"], body["donor"]["name"]) = (json!(text), json!(text));
        let (status, made) = answer(app.post_pledge(&format!("key-{n}"), &body).await).await;
        assert_eq!(status, 201, "{made}");
        let pledge = made["pledge_id"].as_str().unwrap().parse().unwrap();
        app.fact("payment.captured", pledge, &format!("pay_{n}"), 5000).await;
    }
    app.at_rest().await;
    let mut files = Vec::new();
    let exports = exports(app).await;
    let marked = exports.iter().map(|path| format!("{path}?bom=true"));
    for (n, path) in exports.iter().cloned().chain(marked).enumerate() {
        let response = app.as_organiser(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        files.push(folder.join(format!("export-{n}.csv")));
        std::fs::write(files.last().unwrap(), response.bytes().await.unwrap()).unwrap();
    }
    let events = folder.join("events.csv");
    let out = events.to_str().unwrap();
    let (code, said) = replay(&["--database-url", &app.database_url, "export", "--out", out]).await;
    assert_eq!((code, said.as_str()), (Some(0), ""));
    files.push(events);
    files
}

fn cells(file: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(file).unwrap();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let rows = reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect());
    rows.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cell_of_an_export_is_run_and_every_value_is_kept() {
    let app = TestApp::start().await;
    let folder = tempfile::tempdir().unwrap();
    let files = exported(&app, folder.path()).await;
    for separator in SEPARATORS {
        assert_eq!(formulas(&files, separator), [""; 0], "separated by {separator}");
    }
    // LibreOffice does run what is not disarmed.
    let armed = folder.path().join("armed.csv");
    std::fs::write(&armed, "\"thanks;=1+1\",5\r\n").unwrap();
    assert_eq!(formulas(&[armed], 59).len(), 1);

    let out = tempfile::tempdir().unwrap();
    let form = "csv:Text - txt - csv (StarCalc):44,34,76,1,,1033,true,false,false";
    convert(&files, 44, true, form, out.path());
    for file in &files {
        let lower = |rows: Vec<Vec<String>>| -> Vec<Vec<String>> {
            rows.into_iter().map(|row| row.iter().map(|cell| cell.to_lowercase()).collect()).collect()
        };
        // Truth values are written in capital letters there.
        let opened = lower(cells(&out.path().join(file.file_name().unwrap())));
        assert_eq!(opened, lower(cells(file)), "{}", file.display());
        assert!(opened.len() > ARMED.len(), "{}", file.display());
    }
}

/// The columns under a heading of a page: the first ones in each row of its tables.
fn documented(page: &str, heading: &str) -> Vec<String> {
    let page = std::fs::read_to_string(root().join(page)).unwrap();
    let (_, section) = page.split_once(&format!("\n{heading}\n")).expect(heading);
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_owned).collect()
}

/// The names in the first line.
fn names(csv: &str) -> Vec<&str> {
    csv.lines().next().unwrap().split(',').map(|name| name.trim_matches('"')).collect()
}

/// The routes that answer with CSV, by the description of the API.
async fn exports(app: &TestApp) -> Vec<String> {
    let (_, api) = app.get("/api/openapi.json").await;
    let paths = api["paths"].as_object().unwrap().iter();
    let is_csv = |methods: &Value| methods.pointer("/get/responses/200/content/text~1csv").is_some();
    let exports: Vec<String> =
        paths.filter(|(_, methods)| is_csv(methods)).map(|(path, _)| path.clone()).collect();
    assert!(exports.len() >= 3, "{exports:?}");
    exports
}

#[tokio::test(flavor = "multi_thread")]
async fn the_columns_of_exports_are_documented_in_their_order() {
    let app = TestApp::start().await;
    for path in exports(&app).await {
        let (_, what) = path.rsplit_once('/').unwrap();
        let response = app.as_organiser(Method::GET, &path).send().await.unwrap();
        let csv = response.text().await.unwrap();
        assert_eq!(documented("docs/api.md", &format!("### Columns of {what}")), names(&csv), "{what}");
    }
    let (_, said) = replay(&["--database-url", &app.database_url, "export", "--format", "csv"]).await;
    assert_eq!(documented("docs/auditing.md", "### Columns of replay export"), names(&said));
}
