//! Cases of the injection that are data; `tests/injection/README.md` documents the form.

mod judge;
pub mod live;
mod schema;

use std::{collections::BTreeMap, fs};

use routing::{
    injection::{Context, Settings, Verdict, admission, decide, inject, patch, patched},
    resources::{Store, parse_object},
};
use serde_json::{Value, json};

use crate::{apiserver::documents, binary::repository};
pub use schema::lost;

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// File and sentence.
    pub title: String,
    /// As it is written.
    written: Value,
}

/// What came of a pod.
#[derive(Clone, Debug)]
pub enum Came {
    /// A pod with a proxy, and warnings.
    Injected(Value, Vec<String>),
    /// None, for this reason.
    Skipped(String),
    /// It is not made, for this reason.
    Refused(String),
}

/// Every case of `tests/injection`.
pub fn cases() -> Vec<Case> {
    let folder = repository().join("tests/injection");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.flatten().map(|it| it.path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "yaml"));
    files.sort();
    let mut cases = Vec::new();
    for path in files {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for written in documents(&fs::read_to_string(&path).expect("a file of cases is text")) {
            let sentence = written["case"].as_str().unwrap_or_else(|| panic!("{file}: a case without a sentence"));
            cases.push(Case { title: format!("{file}: {sentence}"), written });
        }
    }
    cases
}

impl Case {
    /// Whether it is played at a running webhook, too.
    pub fn is_live(&self) -> bool {
        self.written["live"] == true
    }

    /// The path of the webhook that is asked.
    pub fn path(&self) -> &str {
        self.written["path"].as_str().unwrap_or("/inject")
    }

    /// The namespace the pod is to be in.
    pub fn namespace(&self) -> &str {
        self.written["namespace"]["name"].as_str().unwrap_or("shop")
    }

    /// The pod that goes in.
    pub fn pod(&self) -> Value {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "cart", "labels": {"app": "cart"}},
            "spec": {"containers": [{"name": "app", "image": "app:1"}]},
        });
        lay_over(&mut pod, &self.written["pod"]);
        pod
    }

    /// The settings that it is played with.
    pub fn settings(&self) -> Settings {
        let text = |part: &str| match &self.written[part] {
            Value::Null => String::new(),
            some => some.to_string(),
        };
        let (settings, unknown) = Settings::read(&text("values"), &text("mesh"))
            .unwrap_or_else(|error| panic!("{}: the settings: {error}", self.title));
        assert!(unknown.is_empty(), "{}: {unknown:?}", self.title);
        let minor = self.written["kubelet"].as_u64().and_then(|it| u32::try_from(it).ok());
        let objects = self.written["objects"].as_array().into_iter().flatten().map(parse_object);
        let objects = objects.map(|parsed| (String::new(), parsed)).collect();
        let (resources, problems) = Store::default().replace(objects);
        assert!(problems.is_empty(), "{}: {problems:?}", self.title);
        settings.with_kubelet(minor).with_proxy_configs(resources.proxy_configs)
    }

    /// The question that an API server asks about it.
    pub fn review(&self) -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "9c1f", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
                "namespace": self.namespace(), "object": self.pod(),
            },
        })
    }

    /// Plays it at the pure functions; gives what is not as it should be.
    pub fn play(&self) -> Vec<String> {
        let came = self.decide_and_inject();
        let mut faults = judge::judge(&self.written, &came);
        if let Came::Injected(pod, _) = &came {
            faults.extend(self.look_at(pod));
        }
        faults
    }

    /// Judges what a webhook answered; gives what is not as it should be.
    pub fn judge_answer(&self, review: &Value) -> Vec<String> {
        match judge::came_of(review, &self.pod()) {
            Ok(came) => judge::judge(&self.written, &came),
            Err(fault) => vec![fault],
        }
    }

    /// The pod that comes out, when it is injected.
    pub fn injected(&self) -> Option<Value> {
        match self.decide_and_inject() {
            Came::Injected(pod, _) => Some(pod),
            _ => None,
        }
    }

    fn decide_and_inject(&self) -> Came {
        let (pod, settings) = (self.pod(), self.settings());
        let Verdict { inject: wanted, reason } = decide(self.namespace(), self.labels().as_ref(), &pod, &settings);
        if !wanted {
            return Came::Skipped(reason.to_string());
        }
        let parameters = match admission::parameters(self.path()) {
            Ok(parameters) => parameters,
            Err(sentence) => return Came::Refused(sentence),
        };
        let context = Context { settings: &settings, namespace: self.namespace(), parameters: &parameters };
        match inject(&pod, context) {
            Ok(injected) if self.written["reason"].is_string() && self.written["verdict"].is_null() => {
                let said = reason.to_string();
                let wanted = self.written["reason"].as_str().unwrap_or_default();
                assert!(said.contains(wanted), "{}: it was injected because of: {said}", self.title);
                Came::Injected(injected.pod, injected.warnings)
            }
            Ok(injected) => Came::Injected(injected.pod, injected.warnings),
            Err(refusal) => Came::Refused(refusal.to_string()),
        }
    }

    /// The values that it is played with.
    pub fn values(&self) -> &Value {
        &self.written["values"]
    }

    /// Labels of the namespace; none when the webhook was asked already.
    pub fn labels(&self) -> Option<BTreeMap<String, String>> {
        let namespace = &self.written["namespace"];
        if namespace.is_null() {
            return Some([("istio-injection".to_owned(), "enabled".to_owned())].into());
        }
        let labels = namespace["labels"].as_object()?;
        Some(labels.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect())
    }

    /// What holds for every pod that comes out.
    fn look_at(&self, pod: &Value) -> Vec<String> {
        let mut faults = schema::faults(pod);
        let before = self.pod();
        match patched(&before, &patch(&before, pod)) {
            Ok(made) if made == *pod => {}
            Ok(_) => faults.push("the patch makes another pod".to_owned()),
            Err(error) => faults.push(format!("the patch cannot be applied: {error}")),
        }
        let settings = self.settings();
        let parameters = admission::parameters(self.path()).unwrap_or_default();
        let context = Context { settings: &settings, namespace: self.namespace(), parameters: &parameters };
        match inject(pod, context) {
            Ok(again) if again.pod == *pod => {}
            Ok(again) => {
                let changes = Value::Array(patch(pod, &again.pod));
                faults.push(format!("injecting it again changes it: {changes}"));
            }
            Err(refusal) => faults.push(format!("it cannot be injected again: {refusal}")),
        }
        faults
    }
}

/// RFC 7396.
fn lay_over(target: &mut Value, over: &Value) {
    let Value::Object(over) = over else { return };
    for (key, value) in over {
        match value {
            Value::Null => {
                if let Value::Object(target) = target {
                    target.remove(key);
                }
            }
            Value::Object(_) => {
                if !target[key].is_object() {
                    target[key] = json!({});
                }
                lay_over(&mut target[key], value);
            }
            other => target[key] = other.clone(),
        }
    }
}
