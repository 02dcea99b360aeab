{{- define "control.revision" -}}
{{- .Values.revision | default "default" -}}
{{- end }}

{{/* Of a revision, what follows names. */}}
{{- define "control.suffix" -}}
{{- if ne (include "control.revision" .) "default" }}-{{ .Values.revision }}{{ end -}}
{{- end }}

{{- define "control.name" -}}
sluice-control{{ include "control.suffix" . }}
{{- end }}

{{- define "control.selectorLabels" -}}
app: sluice-control
istio.io/rev: {{ include "control.revision" . | quote }}
{{- end }}

{{- define "control.labels" -}}
{{ include "control.selectorLabels" . }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
app.kubernetes.io/name: sluice-control
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: sluice
{{- end }}

{{- define "control.image" -}}
{{- $tag := .Values.global.tag | default .Chart.AppVersion | toString -}}
{{- $hub := empty .Values.global.hub | ternary "" (printf "%s/" .Values.global.hub) -}}
{{- .Values.image | default (printf "%ssluice:%s" $hub $tag) -}}
{{- end }}

{{/* What `--injection-values` reads: the values that say how pods are injected. */}}
{{- define "control.injection" -}}
{{- $global := deepCopy .Values.global -}}
{{- $global = set $global "istioNamespace" .Release.Namespace -}}
{{- $global = set $global "tag" (.Values.global.tag | default .Chart.AppVersion | toString) -}}
{{- if not .Values.global.caAddress -}}
{{- $global = set $global "caAddress" (printf "%s.%s.svc:15012" (include "control.name" .) .Release.Namespace) -}}
{{- end -}}
{{- $webhook := omit .Values.sidecarInjectorWebhook "failurePolicy" "timeoutSeconds" -}}
{{- $values := dict "revision" .Values.revision "revisionTags" .Values.revisionTags "global" $global "sidecarInjectorWebhook" $webhook -}}
{{- with .Values.meshConfig -}}
{{- $values = set $values "meshConfig" . -}}
{{- end -}}
{{- toYaml $values -}}
{{- end }}

{{/* Where an API server finds the webhooks. The control plane writes caBundle, which is left out for that. */}}
{{- define "control.clientConfig" -}}
service:
  name: {{ include "control.name" .root }}
  namespace: {{ .root.Release.Namespace }}
  path: {{ .path }}
  port: 443
{{- end }}

{{/* Namespaces without which the cluster does not start. */}}
{{- define "control.notTheCluster" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values: [kube-system, kube-public, kube-node-lease, local-path-storage]
{{- end }}
