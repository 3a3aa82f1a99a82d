{{/*
SPDX-License-Identifier: Apache-2.0
The sidecars: of the node with backend local, of the controller with backend stacked.
*/}}

{{/* One sidecar: (list $ NAME PORT ARGS). Port 0: each node has one of its own, so nobody is elected. */}}
{{- define "tdvol.sidecar" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}{{ $port := index . 2 -}}
{{- $values := index $root.Values.sidecars $name -}}
- name: {{ $name }}
  {{- include "tdvol.image" (list $values.image "") | nindent 2 }}
  args:
    - --csi-address=/csi/csi.sock
    {{- if $port }}
    - --leader-election
    - --http-endpoint=:{{ $port }}
    {{- end }}
    {{- range concat (index . 3) $values.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    {{- include "tdvol.env.node" $root | nindent 4 }}
    - name: NAMESPACE
      valueFrom:
        fieldRef:
          fieldPath: metadata.namespace
    - name: POD_NAME
      valueFrom:
        fieldRef:
          fieldPath: metadata.name
  {{- if $port }}
  ports:
    - name: {{ $name }}
      containerPort: {{ $port }}
  livenessProbe:
    httpGet:
      path: /healthz/leader-election
      port: {{ $name }}
    periodSeconds: 20
    timeoutSeconds: 10
  {{- end }}
  securityContext:
    {{- include "tdvol.confined" . | nindent 4 }}
  resources:
    {{- toYaml $values.resources | nindent 4 }}
  volumeMounts:
    - name: plugin
      mountPath: /csi
      readOnly: true
    - name: kubernetes
      mountPath: /var/run/secrets/kubernetes.io/serviceaccount
      readOnly: true
{{- end }}

{{- define "tdvol.sidecars.local" -}}
{{ include "tdvol.sidecar" (list . "provisioner" 0 (list "--node-deployment" "--strict-topology"
     "--immediate-topology=false" "--enable-capacity" "--capacity-ownerref-level=1" "--default-fstype=ext4"
     "--timeout=60s")) }}
{{- if .Values.sidecars.snapshotter.enabled }}
{{ include "tdvol.sidecar" (list . "snapshotter" 0 (list "--node-deployment" "--timeout=120s")) }}
{{- end }}
{{ include "tdvol.sidecar" (list . "resizer" 0 (list "--leader-election" "--handle-volume-inuse-error=false"
     "--timeout=60s")) }}
{{- end }}

{{- define "tdvol.sidecars.stacked" -}}
{{ include "tdvol.sidecar" (list . "provisioner" 9811 (list "--default-fstype=ext4" "--timeout=120s")) }}
{{ include "tdvol.sidecar" (list . "attacher" 9812 (list "--timeout=120s")) }}
{{ include "tdvol.sidecar" (list . "resizer" 9813 (list "--handle-volume-inuse-error=false" "--timeout=120s")) }}
{{- if .Values.sidecars.snapshotter.enabled }}
{{ include "tdvol.sidecar" (list . "snapshotter" 9814 (list "--timeout=120s")) }}
{{- end }}
{{- end }}

{{/* The upstream's container: (list $ VALUES SECURITY MOUNTS). */}}
{{- define "tdvol.upstream" -}}
{{- $upstream := (index . 0).Values.upstream }}{{ $values := index . 1 -}}
- name: {{ $upstream.name }}
  {{- include "tdvol.image" (list $upstream.image "") | nindent 2 }}
  {{- range $field := list "command" "args" "env" }}
  {{- with index $values $field }}
  {{ $field }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  securityContext:
    {{- with $values.securityContext }}
    {{- toYaml . | nindent 4 }}
    {{- else }}
    {{- index . 2 | nindent 4 }}
    {{- end }}
  resources:
    {{- toYaml $values.resources | nindent 4 }}
  volumeMounts:
    {{- index . 3 | nindent 4 }}
    {{- with $values.volumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
