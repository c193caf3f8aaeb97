{{- define "heedwell.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "heedwell.selector" -}}
app.kubernetes.io/name: heedwell
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "heedwell.labels" -}}
{{ include "heedwell.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "heedwell.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* What the server and the job that brings the schema up to date are told alike. */ -}}
{{- define "heedwell.env" -}}
- name: HEEDWELL_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.secretName }}
      key: {{ .Values.database.key }}
- name: HEEDWELL_MASTER_KEY_FILE
  value: /run/heedwell/keys/master-key
- name: HEEDWELL_DATA_DIR
  value: /var/lib/heedwell
- name: HEEDWELL_GRPC_ADDR
  value: "{{ .Values.listen }}:50051"
- name: HEEDWELL_HTTP_ADDR
  value: "{{ .Values.listen }}:8080"
- name: HEEDWELL_METRICS_ADDR
  value: "{{ .Values.listen }}:9464"
- name: HEEDWELL_PUBLIC_URL
  value: {{ .Values.publicUrl | quote }}
- name: HEEDWELL_JWKS
  value: {{ .Values.tokens.jwks | quote }}
- name: HEEDWELL_JWT_ISSUER
  value: {{ .Values.tokens.issuer | quote }}
- name: HEEDWELL_JWT_AUDIENCE
  value: {{ .Values.tokens.audience | quote }}
{{- if .Values.tls.secretName }}
- name: HEEDWELL_TLS_CERT_FILE
  value: /run/heedwell/tls/tls.crt
- name: HEEDWELL_TLS_KEY_FILE
  value: /run/heedwell/tls/tls.key
{{- if .Values.tls.clientCa }}
- name: HEEDWELL_TLS_CLIENT_CA_FILE
  value: /run/heedwell/tls/ca.crt
{{- end }}
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "heedwell.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.runAs }}
runAsGroup: {{ .Values.runAs }}
# The secrets' files become root's and readable for this group, and for nobody else.
fsGroup: {{ .Values.runAs }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "heedwell.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "heedwell.mounts" -}}
- name: keys
  mountPath: /run/heedwell/keys
  readOnly: true
- name: data
  mountPath: /var/lib/heedwell
- name: tmp
  mountPath: /tmp
{{- if .Values.tls.secretName }}
- name: tls
  mountPath: /run/heedwell/tls
  readOnly: true
{{- end }}
{{- with .Values.extraMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "heedwell.volumes" -}}
- name: keys
  secret:
    secretName: {{ .Values.masterKey.secretName }}
    defaultMode: 0440
    items:
      - key: {{ .Values.masterKey.key }}
        path: master-key
- name: data
  emptyDir:
    sizeLimit: 64Mi
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- if .Values.tls.secretName }}
- name: tls
  secret:
    secretName: {{ .Values.tls.secretName }}
    defaultMode: 0440
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
