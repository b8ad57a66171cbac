//! One object up or down, in parts where it is large, checked by its checksum.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinSet;

use super::local::{Sink, Source, off_runtime};
use super::{Copying, content_type, joined};
use crate::checksum::md5_hex;
use crate::download::Vouched;
use crate::multipart::{PART_PAYLOAD, Part, Upload};
use crate::{Crc64, Error, Head, Place, Put, Span};

/// Parts of an upload at most; S3's own limit.
const PARTS_MAX: u64 = dh_core::limits::PARTS_MAX as u64;

/// The stretches of `bytes` in parts of `part`.
fn spans(bytes: u64, part: u64) -> impl Iterator<Item = Span> {
    (0..bytes.div_ceil(part)).map(move |number| {
        let offset = number * part;
        Span { offset, length: part.min(bytes - offset) }
    })
}

impl Copying {
    pub(super) async fn up(self: &Arc<Self>, path: &Path, to: &Place) -> Result<(), Error> {
        let owned = path.to_owned();
        let source = off_runtime(move || Source::open(&owned)).await?;
        let kind = content_type(path);
        if source.bytes > self.options.part_bytes {
            return self.up_in_parts(source, to, kind).await;
        }
        let _permit = self.permit().await?;
        let bytes = source.bytes;
        let body = off_runtime(move || source.read(0, bytes)).await?;
        let content_type = kind.map(ToOwned::to_owned);
        let put = Put { body: body.clone().into(), payload: PART_PAYLOAD, content_type };
        let head = self.client.put(&to.bucket, &to.key, put).await?;
        self.meter.add(bytes);
        self.vouch(&format!("put {to}"), &head, Crc64::of(&body), || md5_hex(&body))
    }

    async fn up_in_parts(self: &Arc<Self>, source: Source, to: &Place, kind: Option<&str>) -> Result<(), Error> {
        let part = self.options.part_bytes.max(source.bytes.div_ceil(PARTS_MAX));
        let upload = Arc::new(self.client.create_upload(to, kind).await?);
        let sent = self.send_parts(&source, &upload, part).await;
        let completed = match sent {
            Ok((parts, crc)) => {
                let head = self.client.complete(&upload, &parts, Some(crc.base64())).await;
                head.and_then(|head| self.vouch(&format!("put {to}"), &head, crc, String::new))
            }
            Err(error) => Err(error),
        };
        if completed.is_err() {
            // The failure itself is told; an upload that could not even be given up is for the bucket's lifecycle.
            drop(self.client.abort(&upload).await);
        }
        completed
    }

    async fn send_parts(
        self: &Arc<Self>,
        source: &Source,
        upload: &Arc<Upload>,
        part: u64,
    ) -> Result<(Vec<Part>, Crc64), Error> {
        let mut tasks = JoinSet::new();
        let mut done: Vec<(Part, Crc64)> = Vec::new();
        for (number, span) in (1..).zip(spans(source.bytes, part)) {
            // Taken here, so that no more parts are in memory than requests are allowed.
            let permit = self.permit().await?;
            let (copying, upload, source) = (Arc::clone(self), Arc::clone(upload), source.clone());
            tasks.spawn(async move {
                let _permit = permit;
                let body = off_runtime(move || source.read(span.offset, span.length)).await?;
                let crc = Crc64::of(&body);
                let put = Put { body: body.into(), payload: PART_PAYLOAD, content_type: None };
                let part = copying.client.put_part(&upload, number, put).await?;
                copying.meter.add(span.length);
                Ok((part, crc))
            });
            while let Some(ended) = tasks.try_join_next() {
                done.extend(joined(Some(ended))?);
            }
        }
        while let Some(ended) = tasks.join_next().await {
            done.extend(joined(Some(ended))?);
        }
        done.sort_by_key(|(part, _crc)| part.number);
        let crc = done.iter().fold(Crc64::empty(), |all, (_part, crc)| all.then(*crc));
        Ok((done.into_iter().map(|(part, _crc)| part).collect(), crc))
    }

    pub(super) async fn down(self: &Arc<Self>, from: &Place, path: &Path) -> Result<(), Error> {
        let owned = path.to_owned();
        let permit = self.permit().await?;
        let head = self.client.head(&from.bucket, &from.key).await?;
        if head.bytes <= self.options.part_bytes {
            let limit = self.options.part_bytes;
            let (head, body) = self.client.get_whole(&from.bucket, &from.key, limit).await?;
            self.meter.add(body.len() as u64);
            self.vouch(&format!("get {from}"), &head, Crc64::of(&body), || md5_hex(&body))?;
            return off_runtime(move || {
                let sink = Sink::create(&owned)?;
                sink.write(0, &body)?;
                sink.finish()
            })
            .await;
        }
        drop(permit);
        let sink = Arc::new(off_runtime(move || Sink::create(&owned)).await?);
        let mut tasks = JoinSet::new();
        let mut done: Vec<(u64, Crc64)> = Vec::new();
        let (from, etag) = (Arc::new(from.clone()), Arc::new(head.etag.clone()));
        for span in spans(head.bytes, self.options.part_bytes) {
            let permit = self.permit().await?;
            let (copying, from, etag, sink) =
                (Arc::clone(self), Arc::clone(&from), Arc::clone(&etag), Arc::clone(&sink));
            tasks.spawn(async move {
                let _permit = permit;
                let etag = etag.as_ref().as_deref();
                let body = copying.client.get_span(&from.bucket, &from.key, span, etag).await?;
                copying.meter.add(span.length);
                let crc = Crc64::of(&body);
                off_runtime(move || sink.write(span.offset, &body)).await?;
                Ok((span.offset, crc))
            });
            while let Some(ended) = tasks.try_join_next() {
                done.extend(joined(Some(ended))?);
            }
        }
        while let Some(ended) = tasks.join_next().await {
            done.extend(joined(Some(ended))?);
        }
        done.sort_by_key(|(offset, _crc)| *offset);
        let crc = done.iter().fold(Crc64::empty(), |all, (_offset, crc)| all.then(*crc));
        self.vouch(&format!("get {from}"), &head, crc, String::new)?;
        let sink = Arc::into_inner(sink).ok_or_else(|| Error::corrupt("get", "a part is still being written"))?;
        off_runtime(move || sink.finish()).await
    }

    /// Compares the checksum, or counts that there was none.
    fn vouch(&self, action: &str, head: &Head, crc: Crc64, md5: impl FnOnce() -> String) -> Result<(), Error> {
        match head.vouches(crc, md5) {
            Vouched::Yes => Ok(()),
            Vouched::No => Err(Error::corrupt(action, "the bytes do not have the checksum that the store told")),
            Vouched::Unknown => {
                self.meter.unchecked.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_every_byte_once() {
        for (bytes, part) in [(0, 5), (1, 5), (5, 5), (6, 5), (23, 7)] {
            let mut next = 0;
            for span in spans(bytes, part) {
                assert_eq!(span.offset, next);
                assert!(span.length >= 1 && span.length <= part);
                next += span.length;
            }
            assert_eq!(next, bytes);
        }
    }
}
