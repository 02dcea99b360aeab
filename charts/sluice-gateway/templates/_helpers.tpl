{{- define "gateway.name" -}}
{{- .Values.name | default .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "gateway.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{/* What selects the pods. Never changes during the life of a release. */}}
{{- define "gateway.selectorLabels" -}}
{{- $short := include "gateway.name" . | trimPrefix "istio-" -}}
app: {{ .Values.labels.app | default (include "gateway.name" .) | quote }}
istio: {{ .Values.labels.istio | default $short | quote }}
{{- end }}

{{/* Labels of the pods: those of the values, under the selector's. */}}
{{- define "gateway.podLabels" -}}
{{- $labels := omit .Values.labels "sidecar.istio.io/inject" -}}
{{- with .Values.revision -}}
{{- $labels = set $labels "istio.io/rev" . -}}
{{- end -}}
{{- toYaml (merge (include "gateway.selectorLabels" . | fromYaml) $labels) -}}
{{- end }}

{{/* Labels of every object. */}}
{{- define "gateway.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version)
  "app.kubernetes.io/name" (include "gateway.name" .)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/part-of" "sluice" -}}
{{- toYaml (merge (include "gateway.podLabels" . | fromYaml) $own) -}}
{{- end }}

{{- define "gateway.image" -}}
{{- .Values.image | default (printf "sluice:%s" .Chart.AppVersion) -}}
{{- end }}

{{/* How many pods there are at least. */}}
{{- define "gateway.replicas" -}}
{{- if .Values.autoscaling.enabled -}}
{{- .Values.autoscaling.minReplicas -}}
{{- else -}}
{{- .Values.replicaCount -}}
{{- end -}}
{{- end }}

{{/* The numbers that the pods listen on for the Service, each once, as a JSON list. */}}
{{- define "gateway.targetPorts" -}}
{{- $numbers := list -}}
{{- range .Values.service.ports -}}
{{- $numbers = append $numbers (.targetPort | default .port | int) -}}
{{- end -}}
{{- $numbers | uniq | toJson -}}
{{- end }}

{{/* "true" when the pods bind a port below 1024 and must be allowed to. */}}
{{- define "gateway.lowPorts" -}}
{{- if kindIs "bool" .Values.unprivilegedPort -}}
{{- if .Values.unprivilegedPort }}true{{ end -}}
{{- else if eq .Values.service.type "None" -}}
true
{{- else -}}
{{- range include "gateway.targetPorts" . | fromJsonArray -}}
{{- if lt (int .) 1024 }}true{{ end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Drained before the pod is killed. */}}
{{- define "gateway.drainTime" -}}
{{- printf "%ds" (max 1 (sub .Values.terminationGracePeriodSeconds 5)) -}}
{{- end }}
