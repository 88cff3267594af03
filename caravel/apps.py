from django.apps import AppConfig


class CaravelConfig(AppConfig):
    name = "caravel"
