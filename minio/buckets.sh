# The buckets of the four stores. Run by minio-init with mc, which the MinIO image carries. Making one twice is no error.
scheme=https
[ "$S3_INSECURE" = true ] && scheme=http
export MC_CONFIG_DIR=/tmp/mc

mc alias set store "$scheme://$S3_ENDPOINT" "$S3_ACCESS_KEY" "$S3_SECRET_KEY"
for bucket in mimir mimir-rules mimir-alertmanager loki tempo pyroscope; do
  mc mb --ignore-existing "store/$bucket"
done
