//! The plain pages of the payment flow. They work without JavaScript, on a phone and by keyboard.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

const STYLE: &str = "\
:root{color-scheme:light dark;font-family:system-ui,sans-serif;line-height:1.5}\
main{max-width:28rem;margin:3rem auto;padding:0 1rem}\
.amount{font-size:2rem;font-weight:700}\
form{display:inline-block;margin:.5rem .5rem 0 0}\
label{display:block}\
input{font:inherit;padding:.75rem;border-radius:.5rem;border:2px solid;max-width:100%;box-sizing:border-box}\
button{font:inherit;padding:.75rem 1.5rem;border-radius:.5rem;border:2px solid;cursor:pointer}\
button:focus-visible,a:focus-visible,input:focus-visible{outline:3px solid;outline-offset:3px}\
.note{font-size:.9rem;opacity:.8}";

/// `text` as HTML that shows it and nothing else.
pub fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            _ => html.push(character),
        }
    }
    html
}

/// A page of its own: `title` is text, `body` is HTML that the caller has escaped.
pub fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    let mut response = (status, Html(html)).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; form-action *; frame-ancestors 'none'; base-uri 'none'",
        ),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
