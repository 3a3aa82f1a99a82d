{{/*
SPDX-License-Identifier: Apache-2.0
Names, labels and images.
*/}}

{{/* The name of the release's objects. Selectors have it and no label of Helm's, as deploy/kubernetes has. */}}
{{- define "tdvol.name" -}}
{{ .Values.fullnameOverride | default .Release.Name }}
{{- end }}

{{- define "tdvol.labels" -}}
app.kubernetes.io/name: {{ include "tdvol.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Metadata of an object of the whole cluster: (list $ SUFFIX). */}}
{{- define "tdvol.clusterMetadata" -}}
{{- $root := index . 0 -}}
name: {{ include "tdvol.name" $root }}-{{ index . 1 }}
labels:
  {{- include "tdvol.labels" $root | nindent 2 }}
{{- end }}

{{/* Metadata of an object in the release's namespace: (list $ SUFFIX). */}}
{{- define "tdvol.metadata" -}}
namespace: {{ (index . 0).Release.Namespace }}
{{ include "tdvol.clusterMetadata" . }}
{{- end }}

{{/* The same with the component: (list $ COMPONENT), which is the suffix, too. */}}
{{- define "tdvol.componentMetadata" -}}
{{- include "tdvol.metadata" . }}
  app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* (list $ COMPONENT) */}}
{{- define "tdvol.selector" -}}
app.kubernetes.io/name: {{ include "tdvol.name" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The lines image and imagePullPolicy of a container: (list IMAGE DEFAULT-TAG). */}}
{{- define "tdvol.image" -}}
{{- $image := index . 0 -}}
image: {{ if $image.digest }}{{ $image.repository }}@{{ $image.digest }}
{{- else }}{{ $image.repository }}{{ with $image.tag | default (index . 1) }}:{{ . }}{{ end }}{{ end }}
{{- with $image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end }}

{{/* Who calls the API server: the sidecars, wherever they run. */}}
{{- define "tdvol.sidecarAccount" -}}
{{ include "tdvol.name" . }}-{{ eq .Values.backend "stacked" | ternary "controller" "node" }}
{{- end }}

{{- define "tdvol.brokerConfigMap" -}}
{{- if .Values.broker.address }}{{ include "tdvol.name" . }}-broker{{ else }}{{ .Values.broker.configMap }}{{ end }}
{{- end }}
