from django.apps import AppConfig

from caravel.core.web.startup import BEFORE_SERVING


class ApiConfig(AppConfig):
    name = "api"

    def ready(self) -> None:
        # By name: workers and commands need neither the views nor their description.
        BEFORE_SERVING.append("api.views.docs.openapi")
