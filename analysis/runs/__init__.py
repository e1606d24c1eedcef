"""Run folders: records that a killed process goes on with, tables, budgets, and the studies that fill them."""
