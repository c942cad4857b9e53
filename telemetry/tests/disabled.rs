//! With the SDK disabled, and nobody else listening, nothing is recorded of a request: it has its id all the same. A process
//! of its own, because the most verbose level that anybody listens to is the process'.
use actix_web::{App, HttpResponse, test, web};
use signalbox_telemetry::actix::{self, Instrument};
use signalbox_telemetry::{init, testing};

async fn item() -> HttpResponse {
    actix::annotate("test.client", "a");
    let handle = actix::current().unwrap();
    HttpResponse::Ok().body(handle.id().to_owned())
}

#[actix_web::test]
async fn a_request_has_its_id_and_no_trace() {
    let vars = [("OTEL_SDK_DISABLED", "true"), ("LOG_FORMAT", "off")];
    let _guard = init(&testing::settings(&vars)).unwrap();
    let app = App::new().wrap(Instrument::new());
    let app = test::init_service(app.route("/items/{id}", web::get().to(item))).await;
    for sent in [None, Some("caller-7")] {
        let request = test::TestRequest::get().uri("/items/7");
        let request = match sent {
            Some(id) => request.insert_header(("x-request-id", id)),
            None => request,
        };
        let response = test::call_service(&app, request.to_request()).await;
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("traceresponse"));
        let id = response.headers().get("x-request-id").unwrap().clone();
        let id = id.to_str().unwrap();
        match sent {
            Some(sent) => assert_eq!(id, sent),
            None => assert_eq!(id.len(), 32),
        }
        assert_eq!(test::read_body(response).await, id);
    }
}
