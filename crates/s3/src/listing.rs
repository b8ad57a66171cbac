//! Buckets and their keys.

use http::Method;

use crate::client::{Client, DOCUMENT_BYTES_MAX, Request};
use crate::document::Node;
use crate::{Error, Place};

/// Pages of one listing, so that a store that never ends one does not hold a client for ever: a hundred million keys.
const PAGES_MAX: u32 = 100_000;

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// When it was made, as S3 writes dates.
    pub created: String,
}

/// What to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// Only keys that start so.
    pub prefix: String,
    /// Keys that have this behind the prefix are put together.
    pub delimiter: Option<String>,
    /// Only keys behind this one.
    pub start_after: Option<String>,
    /// Where the page before ended.
    pub token: Option<String>,
    /// Keys and prefixes of a page at most; the store's own limit is 1,000.
    pub max_keys: Option<u32>,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// Its entity tag, without quotes.
    pub etag: String,
    /// When it was written, as S3 writes dates.
    pub modified: String,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Objects, by key.
    pub objects: Vec<Summary>,
    /// What keys were put together to.
    pub prefixes: Vec<String>,
    /// Where the next page starts; none behind the last.
    pub next: Option<String>,
}

/// All pages of a listing, one after another.
#[derive(Debug)]
pub struct Listing<'c> {
    client: &'c Client,
    bucket: String,
    query: Query,
    pages: u32,
    ended: bool,
}

impl Listing<'_> {
    /// The next page; `None` behind the last.
    /// # Errors
    /// As [`Client::list`].
    pub async fn next(&mut self) -> Result<Option<Page>, Error> {
        if self.ended {
            return Ok(None);
        }
        self.pages += 1;
        if self.pages > PAGES_MAX {
            return Err(Error::corrupt(&format!("list {}", self.bucket), "the listing does not end"));
        }
        let page = self.client.list(&self.bucket, &self.query).await?;
        self.ended = page.next.is_none();
        self.query.token.clone_from(&page.next);
        Ok(Some(page))
    }
}

impl Client {
    /// One page of a listing.
    /// # Errors
    /// What the store says, or that its answer is no listing.
    pub async fn list(&self, bucket: &str, query: &Query) -> Result<Page, Error> {
        let mut request =
            Request::new("list", Method::GET, bucket, "").ask("list-type", "2").ask("encoding-type", "url");
        if !query.prefix.is_empty() {
            request = request.ask("prefix", &query.prefix);
        }
        let optional = [
            ("delimiter", query.delimiter.clone()),
            ("start-after", query.start_after.clone()),
            ("continuation-token", query.token.clone()),
            ("max-keys", query.max_keys.map(|keys| keys.to_string())),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                request = request.ask(name, value);
            }
        }
        let (_headers, body) = self.whole(&request, DOCUMENT_BYTES_MAX).await?;
        read(&request.action, &body)
    }

    /// All pages of a listing.
    pub fn listing(&self, at: &Place, delimiter: Option<&str>) -> Listing<'_> {
        let query = Query { prefix: at.key.clone(), delimiter: delimiter.map(ToOwned::to_owned), ..Query::default() };
        Listing { client: self, bucket: at.bucket.clone(), query, pages: 0, ended: false }
    }

    /// All buckets that the key may see.
    /// # Errors
    /// What the store says.
    pub async fn buckets(&self) -> Result<Vec<Bucket>, Error> {
        let request = Request { action: "list buckets".to_owned(), ..Request::default() };
        let (_headers, body) = self.whole(&request, DOCUMENT_BYTES_MAX).await?;
        let root = Node::root(&request.action, &body, &["ListAllMyBucketsResult"])?;
        let text = |node: &Node, name: &str| node.get(name).unwrap_or_default().to_owned();
        Ok(root
            .all("Buckets")
            .flat_map(|all| all.all("Bucket"))
            .map(|node| Bucket { name: text(node, "Name"), created: text(node, "CreationDate") })
            .collect())
    }

    /// Makes a bucket. That one's own is there already is no error.
    /// # Errors
    /// What the store says.
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), Error> {
        let made = self.whole(&Request::new("make", Method::PUT, bucket, ""), DOCUMENT_BYTES_MAX).await;
        match made {
            Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Removes an empty bucket.
    /// # Errors
    /// What the store says, most often that it is not empty.
    pub async fn remove_bucket(&self, bucket: &str) -> Result<(), Error> {
        self.whole(&Request::new("remove", Method::DELETE, bucket, ""), DOCUMENT_BYTES_MAX).await.map(drop)
    }

    /// Whether a bucket is there.
    /// # Errors
    /// What the store says, but for 404.
    pub async fn has_bucket(&self, bucket: &str) -> Result<bool, Error> {
        match self.send(&Request::new("head", Method::HEAD, bucket, "")).await {
            Ok(_head) => Ok(true),
            Err(Error::Refused { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn read(action: &str, body: &[u8]) -> Result<Page, Error> {
    let root = Node::root(action, body, &["ListBucketResult"])?;
    // A store that does not know the encoding does not name it, and sends keys as they are.
    let encoded = root.get("EncodingType") == Some("url");
    let name = |node: &Node, name: &str| -> Result<String, Error> {
        let text = node.get(name).ok_or_else(|| Error::corrupt(action, format!("an entry has no `{name}`")))?;
        if !encoded {
            return Ok(text.to_owned());
        }
        decode(text).ok_or_else(|| Error::corrupt(action, format!("`{text}` is not encoded as it should be")))
    };
    let object = |node: &Node| {
        let text = |name: &str| node.get(name).unwrap_or_default();
        let bytes = text("Size").parse().map_err(|_error| Error::corrupt(action, "a size is no number"))?;
        let (etag, modified) = (text("ETag").trim_matches('"').to_owned(), text("LastModified").to_owned());
        Ok(Summary { key: name(node, "Key")?, bytes, etag, modified })
    };
    let truncated = root.get("IsTruncated") == Some("true");
    Ok(Page {
        objects: root.all("Contents").map(object).collect::<Result<_, Error>>()?,
        prefixes: root.all("CommonPrefixes").map(|node| name(node, "Prefix")).collect::<Result<_, _>>()?,
        next: root.get("NextContinuationToken").filter(|_token| truncated).map(ToOwned::to_owned),
    })
}

/// Decodes percent and plus.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&[*high, *low]).ok()?, 16).ok()?);
                rest = after;
                continue;
            }
            (b'%', _) => return None,
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_with_and_without_encoding() {
        let page = |encoding: &str| {
            let text = format!(
                "<ListBucketResult>{encoding}<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>\
                 <Contents><Key>a%20b+c</Key><Size>7</Size><ETag>&quot;e&quot;</ETag></Contents>\
                 <CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes></ListBucketResult>"
            );
            read("list", text.as_bytes()).unwrap()
        };
        let encoded = page("<EncodingType>url</EncodingType>");
        assert_eq!((encoded.objects[0].key.as_str(), encoded.objects[0].bytes), ("a b c", 7));
        assert_eq!((encoded.objects[0].etag.as_str(), encoded.next.as_deref()), ("e", Some("t")));
        assert_eq!(page("").objects[0].key, "a%20b+c");
        assert_eq!(page("").prefixes, ["d/"]);
        assert!(read("list", b"<Error/>").is_err());
        assert_eq!(decode("%zz"), None);
    }
}
