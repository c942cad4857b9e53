use lens::{Server, Settings};
use prost::Message;

use crate::profiles::PUSH;
use crate::support::{JSON, Lens, PROTOBUF, gzip, has, header, names, request_of, span};

const DOORS: [&str; 4] = ["/v1/traces", "/v1/logs", "/v1/metrics", PUSH];

#[tokio::test]
async fn garbage_is_400_and_harms_nothing() {
    let lens = Lens::start().await;
    lens.export_spans("api", vec![span(1, 1, 0, "kept", 1)])
        .await;
    for door in DOORS {
        let garbage = b"\xff\xff\xff garbage".to_vec();
        let response = lens.post(door, PROTOBUF, garbage.clone()).await;
        assert_eq!(response.status(), 400, "{door}");
        let content_type = header(&response, "content-type");
        assert_eq!(content_type, "application/problem+json", "{door}");
        let problem: serde_json::Value = response.json().await.expect("JSON");
        assert_eq!(problem["status"], 400, "{door}");

        let no_gzip = lens.post_gzipped(door, PROTOBUF, garbage).await;
        assert_eq!(no_gzip.status(), 400, "{door}");
        let status = lens.sent(door, "text/plain", Vec::new()).await;
        assert_eq!(status, 415, "{door}");
    }
    let no_list = b"{\"resourceSpans\": 1}".to_vec();
    assert_eq!(lens.sent("/v1/traces", JSON, no_list).await, 400);
    assert_eq!(names(&lens.spans("").await), ["kept"]);
}

#[tokio::test]
async fn too_much_is_413_as_sent_and_as_decompressed() {
    let lens = Lens::start_with(|settings| {
        settings.max_body_bytes = 20_000;
        settings.max_decoded_bytes = 100_000;
    })
    .await;
    lens.export_spans("api", vec![span(1, 1, 0, "kept", 1)])
        .await;
    let bomb = gzip(&vec![0; 10_000_000]);
    assert!(bomb.len() < 20_000);
    for door in DOORS {
        let status = lens.sent(door, PROTOBUF, vec![0; 20_001]).await;
        assert_eq!(status, 413, "{door}");
        let response = lens.post_gzipped(door, PROTOBUF, bomb.clone()).await;
        assert_eq!(response.status(), 413, "{door}");
    }
    assert_eq!(names(&lens.spans("").await), ["kept"]);
}

#[tokio::test]
async fn a_foreign_host_is_refused_everywhere() {
    let lens = Lens::start_with(|settings| settings.allowed_hosts = vec!["box".to_owned()]).await;
    for (host, status) in [
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("box:18090", 200),
        ("localhost:1", 200),
    ] {
        let request = lens.client.get(format!("{}/api/identity", lens.url));
        let response = request.header("host", host).send().await;
        assert_eq!(response.expect("an answer").status(), status, "{host}");
    }
    let body = request_of("api", vec![span(1, 1, 0, "foreign", 1)]).encode_to_vec();
    let headers = [("host", "evil.example"), ("content-type", PROTOBUF)];
    let response = lens.post_with("/v1/traces", &headers, body).await;
    assert_eq!(response.status(), 403);
    assert!(lens.spans("").await.is_empty());
}

#[tokio::test]
async fn it_says_who_it_is_and_forbids_what_it_does_not_need() {
    let lens = Lens::start().await;
    let response = lens.get("/api/identity").await;
    let policy = header(&response, "content-security-policy");
    has(policy, &["default-src 'none'", "script-src 'self'"]);
    assert!(!policy.contains("unsafe"), "{policy}");
    let identity: serde_json::Value = response.json().await.expect("JSON");
    assert_eq!(identity["name"], "lens");
    assert_eq!(lens.status("/nothing").await, 404);
}

#[tokio::test]
async fn a_data_directory_in_use_is_refused() {
    let lens = Lens::start().await;
    let data_dir = lens.directory.as_ref().expect("running").path().to_owned();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let settings = Settings {
        data_dir,
        ..Settings::default()
    };
    let refused = Server::build(settings, listener).await.err();
    let why = refused.expect("refused").to_string();
    has(&why, &["another lens is using"]);
}
