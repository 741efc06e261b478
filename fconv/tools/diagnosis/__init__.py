"""Examine what a machine offers fconv, what is used of it, and what to change."""

from fconv.tools.diagnosis.advice import Advice, Diagnosis, diagnose
from fconv.tools.diagnosis.machine import Blas, Machine, examine

__all__ = ["Advice", "Blas", "Diagnosis", "Machine", "diagnose", "examine"]
