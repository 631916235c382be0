"""The page of pipelines: a plugin of Buildbot's web interface (entry point group ``buildbot.www``)."""

from master.web.application import PipelinesApplication

ep = PipelinesApplication()
