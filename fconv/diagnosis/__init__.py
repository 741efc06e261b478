"""Examine what a machine offers fconv, what is used of it, and what to change."""

from fconv.diagnosis.advice import Advice, Diagnosis, diagnose
from fconv.diagnosis.machine import Blas, Machine, examine

__all__ = ["Advice", "Blas", "Diagnosis", "Machine", "diagnose", "examine"]
