//! Scripts and styles, part of the program. `lens/assets/README.md` says where the foreign ones come from.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use actix_web::http::header;
use actix_web::{HttpResponse, web};

use crate::problem::Problem;

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

struct Asset {
    name: &'static str,
    content_type: &'static str,
    body: &'static [u8],
}

const fn asset(name: &'static str, content_type: &'static str, body: &'static [u8]) -> Asset {
    Asset {
        name,
        content_type,
        body,
    }
}

#[rustfmt::skip]
const ASSETS: &[Asset] = &[
    asset("lens.css", STYLE, include_bytes!("../../assets/lens.css")),
    asset("theme.js", SCRIPT, include_bytes!("../../assets/theme.js")),
    asset("live.js", SCRIPT, include_bytes!("../../assets/live.js")),
    asset("chart.js", SCRIPT, include_bytes!("../../assets/chart.js")),
    asset("flame.js", SCRIPT, include_bytes!("../../assets/flame.js")),
    asset("icon.svg", "image/svg+xml", include_bytes!("../../assets/icon.svg")),
    asset("htmx.js", SCRIPT, include_bytes!("../../assets/vendor/htmx.min.js")),
    asset("uplot.js", SCRIPT, include_bytes!("../../assets/vendor/uPlot.iife.min.js")),
    asset("uplot.css", STYLE, include_bytes!("../../assets/vendor/uPlot.min.css")),
    asset("inter.woff2", "font/woff2", include_bytes!("../../assets/vendor/inter-latin-wght-normal.woff2")),
];

/// Changes whenever an asset does, so that browsers may keep them for good.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    ASSETS.iter().for_each(|asset| asset.body.hash(&mut hasher));
    format!("{:x}", hasher.finish())
});

/// Address of an asset.
pub fn url(name: &str) -> String {
    format!("/assets/{name}?v={}", *VERSION)
}

/// `GET /assets/{name}`
pub async fn serve(name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let asset = ASSETS
        .iter()
        .find(|asset| asset.name == *name)
        .ok_or_else(|| Problem::NotFound(format!("there is no asset {name}")))?;
    Ok(HttpResponse::Ok()
        .content_type(asset.content_type)
        .insert_header((header::CACHE_CONTROL, "public, max-age=31536000, immutable"))
        .body(asset.body))
}
