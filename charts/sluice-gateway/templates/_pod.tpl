{{- define "gateway.pod" -}}
{{- if and .Values.identity.caAddress .Values.identity.secretName }}
{{- fail "identity.caAddress and identity.secretName are two sources of one identity; give one of them" }}
{{- end }}
serviceAccountName: {{ include "gateway.serviceAccountName" . }}
# The ServiceAccount says no, so that nothing else in the namespace gets a token without asking.
automountServiceAccountToken: true
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $security := deepCopy (.Values.securityContext | default dict) }}
{{- if include "gateway.lowPorts" . }}
{{- $sysctl := dict "name" "net.ipv4.ip_unprivileged_port_start" "value" "0" }}
{{- $security = set $security "sysctls" (append ($security.sysctls | default list) $sysctl | uniq) }}
{{- end }}
{{- with $security }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.initContainers }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - {{ include "gateway.container" . | nindent 4 | trim }}
  {{- with .Values.additionalContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes:
  # What the pod knows of itself: its labels decide which Gateways it serves.
  - name: podinfo
    downwardAPI:
      items:
        - path: labels
          fieldRef:
            fieldPath: metadata.labels
  # For a private socket while the proxy starts; the root is read-only.
  - name: tmp
    emptyDir:
      medium: Memory
      sizeLimit: 1Mi
  {{- with .Values.identity.secretName }}
  - name: identity
    secret:
      secretName: {{ . }}
  {{- end }}
  {{- if .Values.identity.caAddress }}
  - name: istio-token
    projected:
      sources:
        - serviceAccountToken:
            path: istio-token
            audience: istio-ca
            expirationSeconds: 43200
  # Without it the gateway starts, is not ready, and says what it waits for.
  - name: istiod-ca-cert
    configMap:
      name: istio-ca-root-cert
      optional: true
  # Of a plugged-in CA that has revoked one of those below it.
  - name: istio-ca-crl
    configMap:
      name: istio-ca-crl
      optional: true
  {{- end }}
  {{- with .Values.acme.hooks }}
  - name: acme-hooks
    configMap:
      name: {{ . }}
      # 0555: read and run, by everybody.
      defaultMode: 365
  {{- end }}
  {{- with .Values.volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- if .Values.topologySpreadConstraints }}
  {{- toYaml .Values.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "gateway.selectorLabels" $ | nindent 8 }}
  {{- end }}
  {{- end }}
{{- end }}

{{- define "gateway.container" -}}
name: sluice
image: {{ include "gateway.image" . | quote }}
{{- with .Values.imagePullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- with .Values.containerSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
args:
  - gateway
  - --kubernetes
  - --trust-domain={{ .Values.trustDomain }}
  {{- if .Values.identity.secretName }}
  - --identity-dir=/etc/sluice/identity
  {{- end }}
  {{- with .Values.identity.caAddress }}
  - --ca-address={{ . }}
  {{- end }}
  {{- if .Values.acme.hooks }}
  - --acme-hooks=/etc/sluice/acme-hooks
  {{- end }}
  - --write-status={{ .Values.status.enabled }}
  - --access-log={{ .Values.accessLog }}
  - --drain-time={{ include "gateway.drainTime" . }}
  {{- range .Values.extraArgs }}
  - {{ . | quote }}
  {{- end }}
env:
  - name: POD_NAME
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  - name: POD_UID
    valueFrom:
      fieldRef:
        fieldPath: metadata.uid
  - name: POD_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
  - name: POD_IP
    valueFrom:
      fieldRef:
        fieldPath: status.podIP
  - name: SERVICE_ACCOUNT
    valueFrom:
      fieldRef:
        fieldPath: spec.serviceAccountName
  - name: WORKLOAD_NAME
    value: {{ include "gateway.name" . | quote }}
  {{- range $name, $value := .Values.env }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
  {{- with .Values.envVarFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - name: http-envoy-prom
    containerPort: 15090
    protocol: TCP
  - name: status-port
    containerPort: 15021
    protocol: TCP
  {{- range include "gateway.targetPorts" . | fromJsonArray }}
  {{- if not (has (int .) (list 15021 15090)) }}
  - containerPort: {{ int . }}
    protocol: TCP
  {{- end }}
  {{- end }}
{{- with .Values.readinessProbe }}
readinessProbe:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: podinfo
    mountPath: /etc/podinfo
    readOnly: true
  - name: tmp
    mountPath: /tmp
  {{- if .Values.identity.secretName }}
  - name: identity
    mountPath: /etc/sluice/identity
    readOnly: true
  {{- end }}
  {{- if .Values.identity.caAddress }}
  - name: istio-token
    mountPath: /var/run/secrets/tokens
    readOnly: true
  - name: istiod-ca-cert
    mountPath: /var/run/secrets/istio
    readOnly: true
  - name: istio-ca-crl
    mountPath: /var/run/secrets/istio/crl
    readOnly: true
  {{- end }}
  {{- if .Values.acme.hooks }}
  - name: acme-hooks
    mountPath: /etc/sluice/acme-hooks
    readOnly: true
  {{- end }}
  {{- with .Values.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
