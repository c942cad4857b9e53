use lens::{Server, Settings};
use prost::Message;

use crate::support::{Lens, PROTOBUF, gzip, names, request_of, span};

const DOORS: [&str; 4] = [
    "/v1/traces",
    "/v1/logs",
    "/v1/metrics",
    "/push.v1.PusherService/Push",
];

#[tokio::test]
async fn garbage_is_400_and_harms_nothing() {
    let lens = Lens::start().await;
    lens.export_spans("api", vec![span(1, 1, 0, "kept", 1)])
        .await;
    for door in DOORS {
        let response = lens
            .post(door, PROTOBUF, b"\xff\xff\xff garbage".to_vec())
            .await;
        assert_eq!(response.status(), 400, "{door}");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json",
            "{door}"
        );
        let problem: serde_json::Value =
            serde_json::from_str(&response.text().await.expect("a body")).expect("JSON");
        assert_eq!(problem["status"], 400, "{door}");

        let response = lens
            .post_gzipped(door, PROTOBUF, b"not gzip".to_vec())
            .await;
        assert_eq!(response.status(), 400, "{door}");
        assert_eq!(
            lens.post(door, "text/plain", Vec::new()).await.status(),
            415,
            "{door}"
        );
    }
    assert_eq!(
        lens.post(
            "/v1/traces",
            "application/json",
            b"{\"resourceSpans\": 1}".to_vec()
        )
        .await
        .status(),
        400
    );
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
        assert_eq!(
            lens.post(door, PROTOBUF, vec![0; 20_001]).await.status(),
            413,
            "{door}"
        );
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
        let request = lens
            .client
            .get(format!("{}/api/identity", lens.url))
            .header("host", host);
        assert_eq!(
            request.send().await.expect("an answer").status(),
            status,
            "{host}"
        );
    }
    let body = request_of("api", vec![span(1, 1, 0, "foreign", 1)]).encode_to_vec();
    let request = lens
        .client
        .post(format!("{}/v1/traces", lens.url))
        .header("host", "evil.example")
        .header("content-type", PROTOBUF);
    assert_eq!(
        request.body(body).send().await.expect("an answer").status(),
        403
    );
    assert!(lens.spans("").await.is_empty());
}

#[tokio::test]
async fn it_says_who_it_is_and_forbids_what_it_does_not_need() {
    let lens = Lens::start().await;
    let response = lens.get("/api/identity").await;
    let policy = response.headers()["content-security-policy"]
        .to_str()
        .expect("text")
        .to_owned();
    assert!(
        policy.contains("default-src 'none'")
            && policy.contains("script-src 'self'")
            && !policy.contains("unsafe"),
        "{policy}"
    );
    let identity: serde_json::Value =
        serde_json::from_str(&response.text().await.expect("a body")).expect("JSON");
    assert_eq!(identity["name"], "lens");
    assert_eq!(lens.status("/nothing").await, 404);
}

#[tokio::test]
async fn a_data_directory_in_use_is_refused() {
    let lens = Lens::start().await;
    let data_dir = lens.directory.as_ref().expect("running").path().to_owned();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let error = Server::build(
        Settings {
            data_dir,
            ..Settings::default()
        },
        listener,
    )
    .await
    .err()
    .expect("refused");
    assert!(
        error.to_string().contains("another lens is using"),
        "{error}"
    );
}
