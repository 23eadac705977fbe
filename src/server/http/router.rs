//! Which address leads to which handler.

use crate::server::State;
use crate::server::api::handlers;
use crate::server::api::openapi::{self, Docs};
use crate::server::http::context::Context;
use crate::server::http::error::ApiError;
use crate::server::http::responses::redirect;
use crate::server::pages::demo;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use std::convert::Infallible;
use std::sync::Arc;
use tower_service::Service;
use warp::http::Request;
use warp::reply::Response;
use warp::{Filter, Rejection};

/// Everything behind the gateway: a request whose body has been read, to an answer.
pub type Routes = Arc<dyn Fn(Request<Full<Bytes>>) -> BoxFuture<'static, Response> + Send + Sync>;

/// The service's addresses.
pub fn routes(state: Arc<State>, docs: Arc<Docs>) -> Routes {
    let state = warp::any().map(move || state.clone());
    let docs = warp::any().map(move || docs.clone());
    let context = warp::ext::get::<Context>();
    let body = warp::header::headers_cloned().and(context).and(warp::body::bytes());

    let extract = warp::path!("extract").and(warp::post()).and(state.clone()).and(body).then(handlers::extract);
    let draw = warp::path!("draw_detections").and(warp::post()).and(state.clone()).and(body).then(handlers::draw);
    let form = warp::multipart::form().max_length(None);
    let draw_form =
        warp::path!("multipart" / "draw_detections").and(warp::post()).and(state.clone()).and(context).and(form);
    let draw_form = draw_form.then(handlers::draw_form);
    let info = warp::path!("info").and(warp::get()).and(state.clone()).then(handlers::info);
    let health = warp::path!("health").and(warp::get()).and(state.clone()).then(handlers::health);
    let live = warp::path!("health" / "live").and(warp::get()).then(handlers::live);
    let ready = warp::path!("health" / "ready").and(warp::get()).and(state.clone()).then(handlers::ready);
    let metrics = warp::path!("metrics").and(warp::get()).and(state).then(handlers::metrics);
    let root = warp::path::end().and(warp::get()).then(async || Ok(redirect("/docs")));
    let page = warp::path!("docs").and(warp::get()).and(warp::path::full()).then(openapi::page);
    let asset = warp::path("docs").and(warp::path::tail()).and(warp::get()).and(warp::header::headers_cloned());
    let asset = asset.then(openapi::asset);
    let demo = warp::path("demo")
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(warp::get().or(warp::head()).unify())
        .then(demo::file);
    let openapi = warp::path!("openapi.json").and(warp::get()).and(docs).then(openapi::openapi);

    let posts = extract.or(draw).unify().or(draw_form).unify();
    let gets = info
        .or(health)
        .unify()
        .or(live)
        .unify()
        .or(ready)
        .unify()
        .or(metrics)
        .unify()
        .or(root)
        .unify()
        .or(page)
        .unify()
        .or(asset)
        .unify()
        .or(demo)
        .unify()
        .or(openapi)
        .unify();
    let all = posts.or(gets).unify();
    let all = all.map(|answer: Result<Response, ApiError>| answer.unwrap_or_else(ApiError::into_response));
    let service = warp::service(all.recover(rejected).unify());
    Arc::new(move |request| {
        let answer = service.clone().call(request);
        Box::pin(async move { answer.await.unwrap_or_else(|never: Infallible| match never {}) })
    })
}

/// What no route took. The gateway knows addresses and methods, so what is left is a form that is none.
async fn rejected(rejection: Rejection) -> Result<Response, Infallible> {
    let error = if rejection.is_not_found() {
        ApiError::NotFound
    } else if rejection.find::<warp::reject::InvalidHeader>().is_some()
        || rejection.find::<warp::reject::MissingHeader>().is_some()
    {
        ApiError::UnsupportedMediaType("send the picture as multipart/form-data with a boundary".into())
    } else {
        ApiError::BadRequest("the request cannot be understood".into())
    };
    Ok(error.into_response())
}
