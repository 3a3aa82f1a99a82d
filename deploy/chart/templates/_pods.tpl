{{/*
SPDX-License-Identifier: Apache-2.0
What the pods of node, controller and broker have in common.
*/}}

{{/* Labels and annotations of a pod: (list $ COMPONENT VALUES PORT). */}}
{{- define "tdvol.podMetadata" -}}
{{- $root := index . 0 }}{{ $values := index . 2 -}}
labels:
  {{- include "tdvol.selector" . | nindent 2 }}
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := dict }}
{{- if $root.Values.monitoring.annotations }}
{{- $_ := set $annotations "prometheus.io/scrape" "true" }}
{{- $_ := set $annotations "prometheus.io/port" (index . 3) }}
{{- if ne (index . 1) "broker" }}
{{- $_ := set $annotations "prometheus.io/path" "/metrics" }}
{{- end }}
{{- end }}
{{- if and $root.Values.broker.address (ne (index . 1) "broker") }}
{{- $_ := set $annotations "tdvol.dev/broker" $root.Values.broker.address }}{{/* another address restarts the pods */}}
{{- end }}
{{- with merge (dict) ($values.podAnnotations | default dict) $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where a pod may run: (list $ VALUES). */}}
{{- define "tdvol.placement" -}}
{{- $root := index . 0 }}{{ $values := index . 1 -}}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- if $values.hostNetwork }}
hostNetwork: true
dnsPolicy: ClusterFirstWithHostNet
{{- end }}
{{- end }}

{{/* The securityContext of a pod, without what differs. */}}
{{- define "tdvol.podSecurity" -}}
{{- range $field, $value := .Values.podSecurity }}
{{- with $value }}
{{ $field }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "tdvol.confined" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532   # the group of the CSI socket
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "tdvol.env.node" -}}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end }}

{{- define "tdvol.env.broker" -}}
- name: TDVOL_BROKER
  valueFrom:
    configMapKeyRef:
      name: {{ include "tdvol.brokerConfigMap" . }}
      key: broker   # host:port, or several separated by commas
{{- end }}

{{/* How tdvol-csi finds the broker, and what it shows to it. */}}
{{- define "tdvol.brokerArgs" -}}
- --broker=$(TDVOL_BROKER)
- --broker-ca=/etc/tdvol/broker/ca.crt
{{- if .Values.brokerPolicy }}
- --broker-policy=/etc/tdvol/broker/policy.json
{{- end }}
{{- if eq .Values.attestation "tdx" }}
- --owner-token=/run/secrets/tdvol/token
{{- else }}
- --client-cert=/etc/tdvol/tls/tls.crt
- --client-key=/etc/tdvol/tls/tls.key
{{- end }}
{{- end }}

{{/* The last arguments of tdvol-csi: (list $ VALUES). */}}
{{- define "tdvol.lastArgs" -}}
{{- $values := index . 1 -}}
- --http=0.0.0.0:9809
- --log-format=json
{{- if ne $values.logLevel "info" }}
- --log-level={{ $values.logLevel }}
{{- end }}
{{- range $values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{- define "tdvol.probes" -}}
ports:
  - name: http
    containerPort: 9809
livenessProbe:
  httpGet:
    path: /healthz
    port: http
  periodSeconds: 30
  timeoutSeconds: 10
  failureThreshold: 5   # on a starved node, a restart only makes it worse
readinessProbe:
  httpGet:
    path: /readyz
    port: http
  initialDelaySeconds: 3   # a plugin that has just begun is attested by then: no probe fails in vain
  periodSeconds: 5
  timeoutSeconds: 10
{{- end }}

{{- define "tdvol.brokerMounts" -}}
- name: broker
  mountPath: /etc/tdvol/broker
  readOnly: true
{{- if eq .Values.attestation "tdx" }}
- name: token
  mountPath: /run/secrets/tdvol
  readOnly: true
{{- else }}
- name: tls
  mountPath: /etc/tdvol/tls
  readOnly: true
{{- end }}
{{- end }}

{{/* (list $ VALUES) */}}
{{- define "tdvol.brokerVolumes" -}}
{{- $root := index . 0 }}{{ $values := index . 1 -}}
- name: broker
  {{- if $root.Values.brokerPolicy }}
  projected:
    sources:
      - configMap:
          name: {{ include "tdvol.brokerConfigMap" $root }}
          items:
            - key: ca.crt
              path: ca.crt
      - configMap:
          name: {{ include "tdvol.name" $root }}-broker-policy
          items:
            - key: policy.json
              path: policy.json
  {{- else }}
  configMap:
    name: {{ include "tdvol.brokerConfigMap" $root }}
    items:
      - key: ca.crt
        path: ca.crt
  {{- end }}
{{- if eq $root.Values.attestation "tdx" }}
- name: token   # tdvol-csi reads it as the user nobody
  projected:
    defaultMode: 0444
    sources:
      - serviceAccountToken:
          audience: {{ $root.Values.broker.audience }}
          expirationSeconds: 3600
          path: token
{{- else }}
- name: tls   # tdvol-csi reads a renewed Secret as nobody, by fsGroup
  secret:
    secretName: {{ $values.certificateSecret }}
    defaultMode: 0440
{{- end }}
{{- end }}

{{- define "tdvol.volume.kubernetes" -}}
- name: kubernetes   # what kubelet mounts into every container by default
  projected:
    defaultMode: 0444
    sources:
      - serviceAccountToken:
          expirationSeconds: 3607
          path: token
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                fieldPath: metadata.namespace
{{- end }}

{{- define "tdvol.volume.tmp" -}}
- name: tmp
  emptyDir:
    medium: Memory
    sizeLimit: 16Mi
{{- end }}
