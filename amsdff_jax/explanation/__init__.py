"""Why a model gives a text its label: attributions, attention, gates, and what parts contribute, as a page."""
