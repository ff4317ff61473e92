use super::*;
use crate::settings::Secrets;
use flott_checkpoint::check_store_contract;
use flott_env::Env;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetResult, ListResult, MultipartUpload, PutMultipartOptions, PutPayload, PutResult,
    Result as ClientResult,
};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// What happens to one request that creates an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The server does it, the answer is lost.
    ReplyLost,
    /// The server does it, the answer is lost, and the client tries again by itself.
    ReplyLostAndRetried,
    /// The request is lost.
    RequestLost,
    /// The server says that another request is under way, of which nothing is left then.
    Conflict,
    /// No answer comes.
    Hangs,
}

/// Objects in memory behind a network that loses requests and answers.
#[derive(Debug, Default)]
struct Faulty {
    memory: InMemory,
    faults: Mutex<VecDeque<Fault>>,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

fn lost() -> ClientError {
    ClientError::Generic { store: "faulty", source: "the connection was reset".into() }
}

impl Faulty {
    fn fault(&self) -> Option<Fault> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

#[async_trait::async_trait]
impl Client for Faulty {
    async fn put_opts(
        &self,
        key: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> ClientResult<PutResult> {
        let exists = || ClientError::AlreadyExists { path: key.to_string(), source: "409".into() };
        let put = || self.memory.put_opts(key, payload.clone(), options.clone());
        match self.fault() {
            None => put().await,
            Some(Fault::ReplyLost) => put().await.and(Err(lost())),
            Some(Fault::ReplyLostAndRetried) => {
                put().await?;
                put().await
            }
            Some(Fault::RequestLost) => Err(lost()),
            Some(Fault::Conflict) => Err(exists()),
            Some(Fault::Hangs) => std::future::pending().await,
        }
    }
    async fn put_multipart_opts(
        &self,
        key: &Path,
        options: PutMultipartOptions,
    ) -> ClientResult<Box<dyn MultipartUpload>> {
        self.memory.put_multipart_opts(key, options).await
    }
    async fn get_opts(&self, key: &Path, options: GetOptions) -> ClientResult<GetResult> {
        self.memory.get_opts(key, options).await
    }
    fn delete_stream(
        &self,
        keys: BoxStream<'static, ClientResult<Path>>,
    ) -> BoxStream<'static, ClientResult<Path>> {
        self.memory.delete_stream(keys)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, ClientResult<ObjectMeta>> {
        self.memory.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> ClientResult<ListResult> {
        self.memory.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> ClientResult<()> {
        match self.fault() {
            Some(Fault::ReplyLost) => self.memory.copy_opts(from, to, options).await.and(Err(lost())),
            Some(_) => Err(lost()),
            None => self.memory.copy_opts(from, to, options).await,
        }
    }
}

fn limits() -> Limits {
    Limits {
        request: Duration::from_millis(20),
        retry_for: Duration::from_millis(60),
        single_put_bytes_max: 1 << 20,
        piece_bytes: 1 << 20,
        ..Limits::default()
    }
}

fn store(client: Arc<dyn Client>, limits: Limits) -> CloudStore {
    let runtime = Arc::new(IoRuntime::new().expect("threads"));
    let place = Place { bucket: "mem://b".to_owned(), credentials: "nothing", secrets: Secrets::default() };
    CloudStore::new(place, client, LargePut::CopyIfAbsent, runtime, limits, 7)
}

fn faulty(faults: &[Fault]) -> CloudStore {
    let client = Faulty { faults: Mutex::new(faults.iter().copied().collect()), ..Faulty::default() };
    store(Arc::new(client), limits())
}

#[test]
fn objects_in_memory_keep_the_contract() {
    let env = Env::real().expect("threads");
    let limits = Limits { request: Duration::from_secs(10), retry_for: Duration::from_secs(10), ..limits() };
    let store: Arc<dyn ObjectStore> = Arc::new(store(Arc::new(InMemory::new()), limits));
    check_store_contract(&env, &store, "a/here").expect("the contract holds");
    // Also in small pieces: nothing stays of those under temporary names.
    let names = store.list("a/here").expect("listed");
    assert!(names.iter().all(|name| !name.starts_with(".tmp-")), "{names:?}");
}

#[test]
fn an_answer_that_is_lost_is_looked_up() {
    for fault in [Fault::ReplyLost, Fault::ReplyLostAndRetried, Fault::RequestLost, Fault::Conflict] {
        for n_faults in 1..3 {
            let store = faulty(&vec![fault; n_faults]);
            store.put_if_absent("a", b"mine").expect("made, whatever was lost");
            assert_eq!(store.get("a", 10).expect("read"), b"mine", "{fault:?}");
            let again = store.put_if_absent("a", b"mine").expect_err("it exists, with the same content, too");
            assert_eq!(again.kind(), io::ErrorKind::AlreadyExists, "{fault:?}");
        }
    }
}

#[test]
fn a_lost_answer_about_an_object_of_somebody_else_is_no_success() {
    for fault in [Fault::RequestLost, Fault::ReplyLost, Fault::Conflict] {
        let store = faulty(&[]);
        store.put_if_absent("a", b"theirs").expect("made");
        let other = faulty(&[fault]);
        other.put_if_absent("a", b"x").expect("another bucket");
        let client = Faulty { faults: Mutex::new(VecDeque::from([fault])), memory: InMemory::new() };
        let client = Arc::new(client);
        let attributes = Attributes::from_iter([(Attribute::Metadata(PUT_ID.into()), "somebody".to_owned())]);
        let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
        let runtime = IoRuntime::new().expect("threads");
        let memory = Arc::clone(&client);
        let put = async move { memory.memory.put_opts(&Path::from("a"), "theirs".into(), options).await };
        runtime.wait(async move { put.await.map_err(io::Error::other) }).expect("made");
        let store = self::store(client, limits());
        let error = store.put_if_absent("a", b"theirs").expect_err("it is theirs");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{fault:?}");
    }
}

#[test]
fn a_server_that_never_takes_the_request_is_an_error_in_time_and_not_one_that_says_it_exists() {
    for fault in [Fault::RequestLost, Fault::Conflict, Fault::Hangs] {
        let error = faulty(&[fault; 9]).put_if_absent("a", b"mine").expect_err("it never works");
        assert_ne!(error.kind(), io::ErrorKind::AlreadyExists, "{fault:?}: {error}");
        assert!(error.to_string().contains("cannot create 'mem://b/a'"), "{error}");
    }
}

#[test]
fn a_large_object_is_seen_whole_or_not_at_all() {
    let large = vec![3; 5 << 20];
    let store = faulty(&[Fault::RequestLost, Fault::ReplyLost]);
    store.put_if_absent("d/large", &large).expect_err("the copy was lost");
    assert_eq!(store.list("d").expect("listed"), [""; 0], "nothing stays");
    // Whether it worked is not known here: who asked compares the content.
    store.put_if_absent("d/large", &large).expect_err("the answer was lost");
    assert_eq!(store.get("d/large", 1 << 30).expect("read"), large);
    assert_eq!(store.list("d").expect("listed"), ["large"]);
}

#[test]
fn an_object_that_is_written_while_it_comes_is_made_as_others_are() {
    let write = |store: &CloudStore, len: usize| {
        let mut writer = store.create("d/x").expect("begun");
        vec![5; len].chunks(300_000).for_each(|piece| writer.write(piece).expect("written"));
        writer.publish()
    };
    // A small one is one put, of which a lost answer is looked up.
    let store = faulty(&[Fault::ReplyLost]);
    write(&store, 1 << 19).expect("made");
    assert_eq!(store.get("d/x", 1 << 30).expect("read").len(), 1 << 19);
    // A large one is a copy at last; whether that worked is for who asked to see.
    let large = (3 << 20) + 1;
    let store = faulty(&[Fault::RequestLost, Fault::ReplyLost]);
    write(&store, large).expect_err("the copy was lost");
    assert_eq!(store.list("d").expect("listed"), [""; 0], "nothing stays");
    write(&store, large).expect_err("the answer was lost");
    assert_eq!(store.get("d/x", 1 << 30).expect("read"), vec![5; large]);
    assert_eq!(store.list("d").expect("listed"), ["x"]);
}

#[test]
fn debug_shows_no_client() {
    assert_eq!(format!("{:?}", faulty(&[])), "CloudStore { bucket: \"mem://b\", .. }");
}
