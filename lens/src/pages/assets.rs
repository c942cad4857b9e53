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

const ASSETS: &[Asset] = &[
    Asset {
        name: "lens.css",
        content_type: STYLE,
        body: include_bytes!("../../assets/lens.css"),
    },
    Asset {
        name: "theme.js",
        content_type: SCRIPT,
        body: include_bytes!("../../assets/theme.js"),
    },
    Asset {
        name: "live.js",
        content_type: SCRIPT,
        body: include_bytes!("../../assets/live.js"),
    },
    Asset {
        name: "chart.js",
        content_type: SCRIPT,
        body: include_bytes!("../../assets/chart.js"),
    },
    Asset {
        name: "flame.js",
        content_type: SCRIPT,
        body: include_bytes!("../../assets/flame.js"),
    },
    Asset {
        name: "icon.svg",
        content_type: "image/svg+xml",
        body: include_bytes!("../../assets/icon.svg"),
    },
    Asset {
        name: "htmx.js",
        content_type: SCRIPT,
        body: include_bytes!("../../assets/vendor/htmx.min.js"),
    },
    Asset {
        name: "uplot.js",
        content_type: SCRIPT,
        body: include_bytes!("../../assets/vendor/uPlot.iife.min.js"),
    },
    Asset {
        name: "uplot.css",
        content_type: STYLE,
        body: include_bytes!("../../assets/vendor/uPlot.min.css"),
    },
    Asset {
        name: "inter.woff2",
        content_type: "font/woff2",
        body: include_bytes!("../../assets/vendor/inter-latin-wght-normal.woff2"),
    },
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
