{{- define "headroom.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "headroom.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "headroom.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "headroom.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "headroom.selector" -}}
app.kubernetes.io/name: {{ include "headroom.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "headroom.commonLabels" -}}
app.kubernetes.io/name: {{ include "headroom.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: headroom
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "headroom.labels" -}}
{{ include "headroom.commonLabels" . }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "headroom.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "headroom.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "headroom.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "headroom.metricsName" -}}
{{ include "headroom.fullname" . }}-metrics
{{- end -}}

{{- define "headroom.metricsPort" -}}
{{ ternary 8443 8080 .Values.metrics.secure }}
{{- end -}}

{{- define "headroom.metricsPortName" -}}
{{ ternary "https" "http" .Values.metrics.secure }}
{{- end -}}

{{- define "headroom.uninstallName" -}}
{{ include "headroom.fullname" . }}-uninstall
{{- end -}}

{{- /* What every container of this chart may not do: Pod Security "restricted", and a read-only root besides. */ -}}
{{- define "headroom.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "headroom.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* The rules of one section of files/rbac.yaml, each under its reason. Takes the list of rules. */ -}}
{{- define "headroom.rules" -}}
{{- range . }}
# {{ .why }}
{{- if .nonResourceURLs }}
- nonResourceURLs: {{ toJson .nonResourceURLs }}
{{- else }}
- apiGroups: {{ toJson .apiGroups }}
  resources: {{ toJson .resources }}
{{- end }}
{{- with .resourceNames }}
  resourceNames: {{ toJson . }}
{{- end }}
  verbs: {{ toJson .verbs }}
{{- end -}}
{{- end -}}

{{- define "headroom.extraScaleRules" -}}
{{- range .Values.rbac.scaleTargets }}
# A scale target named in rbac.scaleTargets.
- apiGroups: {{ list .apiGroup | toJson }}
  resources: {{ list (printf "%s/scale" .resource) | toJson }}
  verbs: ["get", "update"]
{{- end -}}
{{- end -}}
