//! The control plane of the ground: ready, with kinds of our own, RBAC that refuses, and data that outlives its processes.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use stheno_local::control_plane::client;
use stheno_local::testing;

const MANIFEST: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: shop}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: shop}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: cups.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {kind: Cup, plural: cups}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties: {size: {type: integer, maximum: 3}}
---
apiVersion: example.org/v1
kind: Cup
metadata: {name: small, namespace: shop}
spec: {size: 1}
";

#[tokio::test]
async fn manifests_accounts_and_restarts() {
    let mut control_plane = testing::control_plane().await.unwrap();
    let applied = control_plane.apply(MANIFEST).await.unwrap();
    assert_eq!(applied.len(), 6);
    // Again: nothing is created twice.
    assert_eq!(control_plane.apply(MANIFEST).await.unwrap()[5].metadata.uid, applied[5].metadata.uid);

    // The schema is judged by the server, and the refusal says what was wrong.
    let refused = control_plane.apply("{apiVersion: example.org/v1, kind: Cup, metadata: {name: x}, spec: {size: 9}}");
    let refused = anyhow::Error::from(refused.await.unwrap_err());
    assert!(format!("{refused:#}").contains("less than or equal to 3"), "{refused:#}");

    // A service account may do what its role says, and nothing else.
    let kubeconfig = control_plane.account_kubeconfig("shop", "reader").await.unwrap();
    let reader = client(&kubeconfig).await.unwrap();
    Api::<ConfigMap>::namespaced(reader.clone(), "shop").list(&ListParams::default()).await.unwrap();
    let denied = Api::<Namespace>::all(reader).list(&ListParams::default()).await.unwrap_err();
    assert!(denied.to_string().contains("system:serviceaccount:shop:reader"), "{denied}");

    // kube-system's UID is a cluster's identity: it is there, and survives its processes.
    let admin = control_plane.client().await.unwrap();
    let identity = Api::<Namespace>::all(admin.clone()).get("kube-system").await.unwrap().metadata.uid;
    assert!(identity.is_some());
    control_plane.kill_api_server();
    control_plane.stop_etcd().await;
    control_plane.start_etcd().await.unwrap();
    control_plane.start_api_server().await.unwrap();
    assert_eq!(Api::<Namespace>::all(admin.clone()).get("kube-system").await.unwrap().metadata.uid, identity);
    let datacenter = GroupVersionKind::gvk("cassandra.datastax.com", "v1beta1", "CassandraDatacenter");
    let api: Api<DynamicObject> = Api::all_with(admin, &ApiResource::from_gvk(&datacenter));
    assert!(api.list(&ListParams::default()).await.unwrap().items.is_empty());
}
