{# Each ledger's calendar has banking days here. #}
{% test known_calendar(model) %}
select ledger
from {{ model }}
where calendar not in (select calendar from {{ ref('banking_holidays') }})
{% endtest %}
