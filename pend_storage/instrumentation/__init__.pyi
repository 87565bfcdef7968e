from pend_storage.instrumentation._seam import Instruments as Instruments
from pend_storage.instrumentation.opentelemetry import (
    OpenTelemetryInstruments as OpenTelemetryInstruments,
)
from pend_storage.instrumentation.prometheus import PairCollector as PairCollector
from pend_storage.instrumentation.prometheus import (
    PrometheusInstruments as PrometheusInstruments,
)
from pend_storage.instrumentation.prometheus import render as render
