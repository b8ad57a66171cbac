//! `/v1/files` and `/v1/batches`, as `OpenAI` has them.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;

use super::multipart::{Form, Found};
use super::rows::{BatchRow, Counts, FileRow, Status, fresh};
use super::run::{blocking, seconds};
use super::{Batches, broken};
use crate::access::Caller;
use crate::error::shown;
use crate::{Error, Gateway};

/// Endpoints that a batch may be for.
pub(super) const ENDPOINTS: [&str; 6] =
    ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/rerank", "/v1/messages"];
/// Fields of a form that are not the file.
const FIELD_BYTES_MAX: usize = 1_024;
/// As the interface says.
const METADATA_MAX: usize = 16;
/// Things in one page of a list, at most and if nothing is said.
const PAGE: (usize, usize) = (10_000, 20);
/// Batches of one caller that are remembered; the oldest that is over makes room.
const REMEMBERED_MAX: usize = 1_000;
/// Hours that a batch may take.
const HOURS: std::ops::RangeInclusive<u64> = 1..=168;
const PIECE_BYTES: usize = 64 << 10;

pub(crate) fn routes() -> Router<Gateway> {
    Router::new()
        .route("/v1/files", get(list_files).post(upload))
        .route("/v1/files/{id}", get(file).delete(delete))
        .route("/v1/files/{id}/content", get(content))
        .route("/v1/batches", get(list_batches).post(create))
        .route("/v1/batches/{id}", get(batch))
        .route("/v1/batches/{id}/cancel", post(cancel))
}

type Answered = Result<Json<Value>, Error>;

fn batches(gateway: &Gateway) -> Result<&Arc<Batches>, Error> {
    gateway.shared.batches.as_ref().ok_or(Error::NoFiles)
}

#[derive(Deserialize)]
struct Page {
    after: Option<String>,
    limit: Option<usize>,
    order: Option<String>,
    purpose: Option<String>,
}

/// One page of things that are sorted from the newest.
fn page(mut all: Vec<(u64, String, Value)>, page: &Page) -> Value {
    all.sort_by(|one, other| (other.0, &other.1).cmp(&(one.0, &one.1)));
    if page.order.as_deref() == Some("asc") {
        all.reverse();
    }
    let from = page
        .after
        .as_ref()
        .map_or(0, |after| all.iter().position(|(_, id, _)| id == after).map_or(all.len(), |at| at + 1));
    let limit = page.limit.unwrap_or(PAGE.1).clamp(1, PAGE.0);
    let has_more = all.len().saturating_sub(from) > limit;
    let shown: Vec<_> = all.into_iter().skip(from).take(limit).collect();
    let (first, last) = (shown.first().map(|one| one.1.clone()), shown.last().map(|one| one.1.clone()));
    let data: Vec<Value> = shown.into_iter().map(|one| one.2).collect();
    json!({ "object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more })
}

async fn list_files(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<Page>,
) -> Answered {
    let state = batches(&gateway)?.state();
    let fits = |file: &&FileRow| {
        file.owner == caller.name && asked.purpose.as_ref().is_none_or(|purpose| *purpose == file.purpose)
    };
    let all = state.files.values().filter(fits).map(|file| (file.created_at, file.id.clone(), file.view())).collect();
    // Lists of files are long unless the caller says.
    let asked = Page { limit: asked.limit.or(Some(PAGE.0)), ..asked };
    Ok(Json(page(all, &asked)))
}

fn find(batches: &Batches, caller: &Caller, id: &str) -> Result<FileRow, Error> {
    let state = batches.state();
    let found = state.files.get(id).filter(|file| file.owner == caller.name);
    found.cloned().ok_or_else(|| Error::NoFile(shown(id, 80)))
}

async fn file(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answered {
    Ok(Json(find(batches(&gateway)?, &caller, &id)?.view()))
}

async fn delete(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answered {
    let batches = batches(&gateway)?;
    let row = find(batches, &caller, &id)?;
    {
        let mut state = batches.state();
        let reads = |batch: &&BatchRow| !batch.status.is_over() && batch.input_file_id == row.id;
        if let Some(batch) = state.batches.values().find(reads) {
            return Err(Error::InUse(format!("file `{}` is read by batch `{}`; cancel that first", row.id, batch.id)));
        }
        if state.files.remove(&row.id).is_some() {
            state.bytes = state.bytes.saturating_sub(row.bytes);
        }
    }
    let (shared, name) = (Arc::clone(batches), row.id.clone());
    blocking(move || shared.disk.remove(&name)).await?.map_err(broken)?;
    Ok(Json(json!({ "id": row.id, "object": "file", "deleted": true })))
}

async fn content(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let batches = batches(&gateway)?;
    let row = find(batches, &caller, &id)?;
    let file = tokio::fs::File::open(batches.disk.body(&row.id)).await.map_err(broken)?;
    let body = FileBody { file, left: row.bytes, piece: vec![0; PIECE_BYTES] };
    let mut response = Body::new(body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(row.bytes));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    Ok(response)
}

/// A file on its way to a caller.
struct FileBody {
    file: tokio::fs::File,
    left: u64,
    piece: Vec<u8>,
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let mut read = ReadBuf::new(&mut this.piece);
        match pin!(&mut this.file).poll_read(cx, &mut read) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) if read.filled().is_empty() => {
                Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into())))
            }
            Poll::Ready(Ok(())) => {
                let bytes = Bytes::copy_from_slice(read.filled());
                this.left = this.left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A body under way to the drive; removed, and its room given back, unless it is kept.
struct Upload<'b> {
    batches: &'b Batches,
    id: String,
    bytes: u64,
    kept: Kept,
}

#[derive(PartialEq, Eq)]
enum Kept {
    Yes,
    No,
}

impl Upload<'_> {
    fn grow(&mut self, by: usize) -> Result<(), Error> {
        let by = u64::try_from(by).unwrap_or(u64::MAX);
        let config = &self.batches.config;
        if self.bytes.saturating_add(by) > config.file_bytes_max {
            return Err(Error::FileTooLarge(config.file_bytes_max));
        }
        let mut state = self.batches.state();
        if state.bytes.saturating_add(by) > config.total_bytes_max {
            return Err(Error::FilesFull("files fill the room that they may have; delete some"));
        }
        state.bytes += by;
        self.bytes += by;
        Ok(())
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if self.kept == Kept::No {
            let mut state = self.batches.state();
            state.bytes = state.bytes.saturating_sub(self.bytes);
            drop(state);
            // It may not have been made yet; and the next start removes what is left.
            drop(std::fs::remove_file(self.batches.disk.upload(&self.id)));
        }
    }
}

async fn upload(State(gateway): State<Gateway>, Extension(caller): Extension<Caller>, request: Request) -> Answered {
    let batches = batches(&gateway)?;
    let _place = gateway.shared.admission.enter()?;
    if batches.state().files.values().filter(|file| file.owner == caller.name).count() >= batches.config.files_max {
        return Err(Error::FilesFull("you have as many files as anybody may have; delete some"));
    }
    let form = request.headers().get(CONTENT_TYPE).and_then(|kind| Form::of(kind.to_str().ok()?));
    let mut form = form.ok_or_else(|| Error::Upload("send it as multipart/form-data with a boundary".to_owned()))?;
    let mut body = request.into_body();
    let mut upload = Upload { batches, id: fresh("file-"), bytes: 0, kept: Kept::No };
    let path = batches.disk.upload(&upload.id);
    let (mut file, mut filename) = (None, String::new());
    let (mut purpose, mut part) = (Vec::new(), String::new());
    'form: loop {
        while let Some(found) = form.next().map_err(|wrong| Error::Upload(wrong.to_owned()))? {
            match found {
                Found::End => break 'form,
                Found::Part { name, filename: called } => {
                    if name == "file" {
                        if file.is_some() {
                            return Err(Error::Upload("there are two fields `file`".to_owned()));
                        }
                        file = Some(tokio::fs::File::create(&path).await.map_err(broken)?);
                        filename = called.unwrap_or_else(|| "file".to_owned());
                        filename.truncate(filename.floor_char_boundary(255));
                    }
                    part = name;
                }
                Found::Bytes(bytes) => match (part.as_str(), &mut file) {
                    ("file", Some(file)) => {
                        upload.grow(bytes.len())?;
                        file.write_all(&bytes).await.map_err(broken)?;
                    }
                    ("purpose", _) if purpose.len() + bytes.len() <= FIELD_BYTES_MAX => {
                        purpose.extend_from_slice(&bytes);
                    }
                    ("purpose", _) => return Err(Error::Upload("`purpose` is too long".to_owned())),
                    _ => {}
                },
            }
        }
        let next = timeout(gateway.shared.config.timeouts.body_gap, body.frame()).await.map_err(|_| Error::SlowBody)?;
        match next {
            Some(Ok(frame)) => form.push(&frame.into_data().unwrap_or_default()),
            Some(Err(_)) | None => return Err(Error::BrokenBody),
        }
    }
    let file = file.ok_or_else(|| Error::Upload("the field `file` is missing".to_owned()))?;
    let purpose = String::from_utf8(purpose).unwrap_or_default();
    if purpose.is_empty() || !purpose.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
        return Err(Error::Upload(
            "the field `purpose` is missing, or no plain word; for batches it is `batch`".to_owned(),
        ));
    }
    file.sync_all().await.map_err(broken)?;
    let (id, owner, created_at) = (upload.id.clone(), caller.name, seconds(&gateway));
    let row = FileRow { id, owner, bytes: upload.bytes, created_at, filename, purpose };
    let (shared, kept) = (Arc::clone(batches), row.clone());
    let keep = move || {
        shared.disk.keep(&path, &kept.id)?;
        shared.disk.put("files", &kept.id, &kept)
    };
    blocking(keep).await?.map_err(broken)?;
    upload.kept = Kept::Yes;
    let view = row.view();
    batches.state().files.insert(row.id.clone(), row);
    Ok(Json(view))
}

#[derive(Deserialize)]
struct Wanted {
    input_file_id: String,
    endpoint: String,
    completion_window: Option<String>,
    metadata: Option<Map<String, Value>>,
}

async fn create(State(gateway): State<Gateway>, Extension(caller): Extension<Caller>, request: Request) -> Answered {
    let batches = batches(&gateway)?;
    let (parts, body) = request.into_parts();
    let body = gateway.shared.admission.read(&parts.headers, body).await?;
    let Wanted { input_file_id, endpoint, completion_window, metadata } =
        serde_json::from_slice(&body.bytes).map_err(|error| Error::BadField(shown(&error.to_string(), 200)))?;
    if !ENDPOINTS.contains(&endpoint.as_str()) {
        return Err(Error::BadField(format!("`endpoint` must be one of {}", ENDPOINTS.join(", "))));
    }
    let window = completion_window.unwrap_or_else(|| "24h".to_owned());
    let hours =
        window.strip_suffix('h').and_then(|hours| hours.parse::<u64>().ok()).filter(|hours| HOURS.contains(hours));
    let hours = hours.ok_or_else(|| Error::BadField("`completion_window` must be hours, such as `24h`".to_owned()))?;
    if metadata
        .as_ref()
        .is_some_and(|metadata| metadata.len() > METADATA_MAX || metadata.values().any(|one| !one.is_string()))
    {
        return Err(Error::BadField(format!("`metadata` must have at most {METADATA_MAX} texts")));
    }
    let input = find(batches, &caller, &input_file_id)?;
    if input.purpose != "batch" {
        return Err(Error::BadField(format!("file `{}` has the purpose `{}`, not `batch`", input.id, input.purpose)));
    }
    let created_at = seconds(&gateway);
    let row = BatchRow {
        id: fresh("batch_"),
        owner: caller.name,
        endpoint,
        input_file_id: input.id,
        completion_window: window,
        metadata,
        status: Status::Validating,
        ends: None,
        errors: Vec::new(),
        output_id: fresh("file-"),
        error_id: fresh("file-"),
        output_file_id: None,
        error_file_id: None,
        counts: Counts::default(),
        created_at,
        expires_at: created_at.saturating_add(hours * 3_600),
        in_progress_at: None,
        finalizing_at: None,
        completed_at: None,
        failed_at: None,
        expired_at: None,
        cancelling_at: None,
        cancelled_at: None,
    };
    {
        let mut state = batches.state();
        let own = state.batches.values().filter(|batch| batch.owner == row.owner);
        if own.filter(|batch| !batch.status.is_over()).count() >= batches.config.batches_max {
            return Err(Error::FilesFull("you have as many batches under way as anybody may have"));
        }
        if !state.files.contains_key(&row.input_file_id) {
            return Err(Error::NoFile(row.input_file_id));
        }
        if state.batches.values().filter(|batch| batch.owner == row.owner).count() >= REMEMBERED_MAX {
            let over = state.batches.values().filter(|batch| batch.owner == row.owner && batch.status.is_over());
            if let Some(id) = over.min_by_key(|batch| batch.created_at).map(|batch| batch.id.clone()) {
                batches.disk.forget(&id).map_err(broken)?;
                state.batches.remove(&id);
            }
        }
        batches.disk.put("batches", &row.id, &row).map_err(broken)?;
        state.batches.insert(row.id.clone(), row.clone());
    }
    batches.made.notify_one();
    Ok(Json(row.view()))
}

fn find_batch(batches: &Batches, caller: &Caller, id: &str) -> Result<BatchRow, Error> {
    let state = batches.state();
    let found = state.batches.get(id).filter(|batch| batch.owner == caller.name);
    found.cloned().ok_or_else(|| Error::NoBatch(shown(id, 80)))
}

async fn batch(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answered {
    Ok(Json(find_batch(batches(&gateway)?, &caller, &id)?.view()))
}

async fn list_batches(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<Page>,
) -> Answered {
    let state = batches(&gateway)?.state();
    let own = state.batches.values().filter(|batch| batch.owner == caller.name);
    Ok(Json(page(own.map(|batch| (batch.created_at, batch.id.clone(), batch.view())).collect(), &asked)))
}

async fn cancel(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answered {
    let batches = batches(&gateway)?;
    let row = find_batch(batches, &caller, &id)?;
    if row.status.is_over() {
        return Err(Error::InUse(format!("batch `{}` has ended already", row.id)));
    }
    let now = seconds(&gateway);
    let cancelling = |row: &mut BatchRow| {
        // What is over, or ends this moment, ends as it does.
        if matches!(row.status, Status::Validating | Status::InProgress) && row.ends.is_none() {
            (row.status, row.cancelling_at) = (Status::Cancelling, Some(now));
        }
    };
    let row = batches.change(&row.id, cancelling)?.unwrap_or(row);
    batches.cancelled.notify_waiters();
    Ok(Json(row.view()))
}
