//! A body that belongs to its request.
use std::pin::Pin;
use std::task::{self, Poll};

use http_body::{Body, Frame, SizeHint};
use tracing::Span;

pin_project_lite::pin_project! {
    /// A body that is made and sent within its request's span.
    #[derive(Debug)]
    pub struct Spanned<B> {
        #[pin]
        pub(super) body: Option<B>,
        pub(super) span: Span,
    }

    impl<B> PinnedDrop for Spanned<B> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _entered = this.span.enter();
            this.body.set(None);
        }
    }
}

impl<B: Body> Body for Spanned<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let _entered = this.span.enter();
        match this.body.as_pin_mut() {
            Some(body) => body.poll_frame(task),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
